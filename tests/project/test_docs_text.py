"""The prose of the pages: short sentences, links that lead somewhere, and names of files that are there."""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "samples/README.md")]
PAGES = [*FRONT, *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = [page for page in PAGES if page.name != "table.md"]
"""Those of this folder; the tables of studies are written by `train.study`."""
PROSE = [page for page in WRITTEN if page.name != "commands.md"]
"""Those of sentences; the page of commands has the phrases of `--help`."""
MOST_WORDS = 30
MOST_WORDS_OF_NINE_IN_TEN = 25
MOST_LINES_OF_README = 150
ENDS = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'(]*[A-Z0-9`\[*])")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:serve|train|tests|docs|proto|models|samples)/[\w./-]*)`")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read_prose(text: str) -> Iterator[str]:
    """Paragraphs and items of lists, without code, tables, comments and headings; inline code is one word."""
    text = re.sub(r"^(```+|:::+).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`", "Code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = ["" if line.lstrip().startswith(("|", "#")) else line for line in text.splitlines()]
    text = re.sub(r"^\s*(?:[-*]|\d+\.) ", "\n", "\n".join(lines), flags=re.MULTILINE)
    return (" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip())


def read_sentences(page: Path) -> list[str]:
    """The sentences of a page."""
    return [sentence for paragraph in read_prose(page.read_text()) for sentence in ENDS.split(paragraph)]


def count_words(sentence: str) -> int:
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def find_anchors(page: Path) -> set[str]:
    """What a link into a page may name: its headings, as GitHub writes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_sentences_are_found_where_they_are() -> None:
    text = """\
# No. Heading

One `a.b c`. `Two` [words. here](x.md) end: - all!

- Three
  goes on.

| no | cell |

```sh
no
```
"""
    found = [sentence for paragraph in read_prose(text) for sentence in ENDS.split(paragraph)]
    assert found == ["One Code.", "Code words. here end: - all!", "Three goes on."]
    assert list(map(count_words, found)) == [2, 5, 3]


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_no_sentence_is_long(page: Path) -> None:
    assert [sentence for sentence in read_sentences(page) if count_words(sentence) > MOST_WORDS] == []


@pytest.mark.parametrize("pages", [[FRONT[0]], PROSE], ids=["README.md", "all"])
def test_nine_sentences_in_ten_are_short(pages: list[Path]) -> None:
    counts = [count_words(sentence) for page in pages for sentence in read_sentences(page)]
    assert len(counts) > 20
    assert statistics.quantiles(counts, n=10)[-1] <= MOST_WORDS_OF_NINE_IN_TEN


def test_the_readme_is_short() -> None:
    assert len(FRONT[0].read_text().splitlines()) <= MOST_LINES_OF_README


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        path, _, anchor = target.partition("#")
        if not target.startswith(("http:", "https:")):
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), f"{target} leads nowhere"
            assert not anchor or anchor in find_anchors(found), f"{target}: there is no such heading"


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = {name for name in NAMED_FILE.findall(page.read_text()) if name != "build/docs"}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_file_that_a_module_names_is_there() -> None:
    files = [path for folder in ("serve", "train", "tests", "docs") for path in (ROOT / folder).rglob("*.py")]
    known = {"/".join(path.parts[-length:]) for path in files for length in range(1, 5)}
    named = {(path.name, name) for path in files for name in re.findall(r"`([\w/]+\.py)`", path.read_text())}
    assert named
    assert {(module, name) for module, name in named if name not in known} == set()


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("EXIF", "serve/images/pixels.py"),
        ("status of a refused call", "serve/api/status.py"),
        ("temperature", "train/evaluation/calibration.py"),
        ("policies", "serve/images/policies/"),
        ("--max-pending", "serve/inference/admission.py"),
    ],
)
def test_contributing_says_where_things_are(question: str, answer: str) -> None:
    """What a new reader looks for is in a row of the table, with the file that has it."""
    rows = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| ")]
    (row,) = (row for row in rows if question in row)
    assert f"`{answer}`" in row
    assert (ROOT / answer).exists()
