"""Text and tables in Markdown.

Enters: strings. Leaves: Markdown that GitHub and MyST read alike. Does not know: what the strings say.
"""

from collections.abc import Iterable, Sequence


def escape(text: str) -> str:
    """Plain text as Markdown that shows it: neither a tag, nor the end of a cell."""
    return " ".join(text.replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*").split())


def code(text: str) -> str:
    """Inline code; a bar inside would end a table's cell."""
    return f"`{text}`".replace("|", "\\|")


def make_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def fence(text: str, language: str) -> str:
    """A fenced block of code or output."""
    return f"```{language}\n{text.rstrip()}\n```"
