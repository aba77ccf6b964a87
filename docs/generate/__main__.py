"""`python -m docs.generate`: write anew what pages have from code; with `--check` only say which are out of date.

Enters: the pages, the pictures and a flag. Leaves: pages whose blocks, and pictures, are those of today's code; exit
code 1 if `--check` finds one that is out of date. Does not know: what a block says (the other modules of this folder).

A block stands between two marks, which are comments in Markdown:

    <!-- generated: settings -->
    <!-- end -->

The first word names the function that writes the block, the others are its arguments.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from docs.generate.api import write_api
from docs.generate.capacity import write_capacity
from docs.generate.commands import write_commands
from docs.generate.errors import write_error_tree, write_reasons
from docs.generate.metrics import write_metrics
from docs.generate.model_files import write_headline, write_keys, write_shipped_files
from docs.generate.pictures import draw_models
from docs.generate.recipes import write_recipes
from docs.generate.results import write_machines, write_results
from docs.generate.settings import write_settings

ROOT = Path(__file__).parents[2]
WRITERS: dict[str, Callable[..., str]] = {
    "api": write_api,
    "capacity": write_capacity,
    "commands": write_commands,
    "error-tree": write_error_tree,
    "headline": write_headline,
    "machines": write_machines,
    "metrics": write_metrics,
    "model-keys": write_keys,
    "reasons": write_reasons,
    "recipes": write_recipes,
    "results": write_results,
    "settings": write_settings,
    "shipped-files": write_shipped_files,
}
PICTURES: dict[str, Callable[[], str]] = {"benchmarks/models.svg": draw_models}
BLOCK = re.compile(r"(<!-- generated: ([^>]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def find_pages() -> Iterator[Path]:
    """Every page that may have a block."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))
    yield from sorted((ROOT / "models").rglob("*.md"))


def renew(page: str) -> str:
    """The text of a page with all of its blocks written anew. Raises KeyError for a name that nothing writes."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{write_block(found[2])}\n\n{found[3]}", page)


def write_block(mark: str) -> str:
    """The Markdown of one block."""
    name, *arguments = mark.split()
    return WRITERS[name](*arguments)


def main() -> int:
    """Exit code 1 if `--check` found a page that is out of date, else 0."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Write what pages have from code.")
    parser.add_argument("--check", action="store_true", help="write nothing; name the pages that are out of date")
    flags = parser.parse_args()
    texts = {page: renew(page.read_text()) for page in find_pages()}
    texts |= {ROOT / "docs" / picture: draw() for picture, draw in PICTURES.items()}
    stale = [file for file, text in texts.items() if not file.exists() or file.read_text() != text]
    for file in stale:
        if flags.check:
            print(f"{file.relative_to(ROOT)} is out of date; run: make docs")
        else:
            file.write_text(texts[file])
            print(f"wrote {file.relative_to(ROOT)}")
    return 1 if flags.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
