"""The name of a command in its own help: `python -m MODULE`, or `inkling COMMAND` if it was started so.

Enters: a module's name. Leaves: what its users type. Does not know: which commands there are.
"""

from contextvars import ContextVar

COMMAND: ContextVar[str] = ContextVar("command", default="")
"""The words after `inkling`; none under `python -m`."""


def name_program(module: str) -> str:
    """What usage and errors of a module's flags begin with."""
    command = COMMAND.get()
    return f"inkling {command}" if command else f"python -m {module}"
