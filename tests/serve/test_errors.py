"""serve.errors: the documented tree is the tree of the classes; each error for a client has its own reason."""

import re

import pytest

from serve import errors
from serve.errors import MAX_LIST, CallError, InklingError, RequestError, ServerError, list_some
from tests.support import ROOT

DRAWN_CLASS = re.compile(r"^(    [|` -]*)([A-Z]\w+)", re.MULTILINE)
INDENT = 4
PAGE = ROOT / "docs/reference/errors.md"
# The form of a reason in google.rpc.ErrorInfo.
REASON = re.compile(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]")


def read_documented_tree() -> dict[str, str]:
    """The parent of each class in the module's docstring."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for branch, name in DRAWN_CLASS.findall(errors.__doc__ or ""):
        depth = len(branch) // INDENT - 1
        del above[depth:]
        parents[name] = above[-1] if above else "Exception"
        above.append(name)
    return parents


def find_classes(root: type[InklingError]) -> list[type[InklingError]]:
    """A class of serve.errors and its descendants there."""
    below = [each for child in root.__subclasses__() for each in find_classes(child)]
    return [each for each in [root, *below] if each.__module__ == errors.__name__]


REACHABLE = [each for root in (RequestError, ServerError) for each in find_classes(root) if not each.__subclasses__()]


def test_the_documented_tree_is_the_tree_of_the_classes() -> None:
    assert read_documented_tree() == {each.__name__: each.__bases__[0].__name__ for each in find_classes(InklingError)}


def test_every_class_of_the_module_is_in_the_tree() -> None:
    defined = {name for name, value in vars(errors).items() if getattr(value, "__module__", "") == errors.__name__}
    defined -= {"quote", "quote_value", "list_some"}  # functions for messages
    assert defined == {each.__name__ for each in find_classes(InklingError)}


@pytest.mark.parametrize("error", REACHABLE, ids=lambda error: error.__name__)
def test_an_error_for_a_client_has_its_own_reason(error: type[InklingError]) -> None:
    assert "reason" in vars(error)
    assert REASON.fullmatch(error.reason)
    assert [each for each in REACHABLE if each.reason == error.reason] == [error]


def test_the_reasons_are_those_that_the_page_lists() -> None:
    """And none that no client ever gets."""
    listed = set(re.findall(r"^\| `[A-Z_]+` \| `([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE))
    defined = {vars(each)["reason"] for each in find_classes(InklingError)[1:] if "reason" in vars(each)}
    assert defined == {each.reason for each in REACHABLE} == listed - {"INTERNAL"}


def test_a_call_error_keeps_its_parts_and_reads_as_code_and_message() -> None:
    error = CallError("NOT_FOUND", "MODEL_NOT_FOUND", "wanted one of the models a, b; got 'c'")
    assert (error.code, error.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert error.message == "wanted one of the models a, b; got 'c'"
    assert str(error) == "NOT_FOUND: wanted one of the models a, b; got 'c'"


def test_a_list_of_names_ends_with_the_number_of_the_others() -> None:
    assert list_some(["a", "b"]) == list_some(iter("ab"), 2) == "a, b"
    assert list_some([]) == ""
    names = [f"model-{index:04}" for index in range(1000)]
    listed = list_some(names)
    assert listed == list_some(iter(names), len(names)) == list_some(iter(names))
    *first, rest = listed.split(", ")
    assert first == names[: len(first)]
    assert rest == f"... and {1000 - len(first)} more; ListModels has all"


def test_names_that_do_not_fit_are_not_made_if_their_number_is_known() -> None:
    made = 0

    def make() -> str:
        nonlocal made
        made += 1
        return "name"

    assert list_some((make() for _ in range(10**6)), 10**6).endswith("more; ListModels has all")
    assert made < MAX_LIST
