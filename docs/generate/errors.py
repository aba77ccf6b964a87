"""The errors: which reasons a caller may get under which status code, and the tree of the classes.

Enters: nothing. Leaves: Markdown, from `serve.errors` and from what `serve.api.status` makes of each class.
Does not know: who raises an error.
"""

import inspect
import textwrap

from google.rpc import code_pb2

from docs.generate.markdown import code, escape, fence, make_table
from serve import errors
from serve.api.status import INTERNAL_MESSAGE, to_status
from serve.errors import InklingError, RequestError, ServerError


def write_reasons() -> str:
    """A row for each reason, in the order of the tree."""
    rows = [
        (code(find_code(each)), code(each.reason), escape(inspect.getdoc(each) or ""))
        for root in (RequestError, ServerError)
        for each in find_leaves(root)
    ]
    rows.append((code("INTERNAL"), code("INTERNAL"), f"A fault of the server. The message: {INTERNAL_MESSAGE}."))
    return make_table(("code", "reason", "meaning"), rows)


def find_leaves(root: type[InklingError]) -> list[type[InklingError]]:
    """The classes below a class that have none below them: those that are raised."""
    below = [each for each in root.__subclasses__() if each.__module__ == errors.__name__]
    return [leaf for each in below for leaf in find_leaves(each)] or [root]


def find_code(kind: type[InklingError]) -> str:
    """The canonical name of the status code that a caller gets for an error."""
    return str(code_pb2.Code.Name(to_status(kind("")).code))


def write_error_tree() -> str:
    """The drawing in the docstring of `serve.errors`."""
    lines = (errors.__doc__ or "").splitlines()
    return fence(textwrap.dedent("\n".join(line for line in lines if line.startswith("    "))), "text")
