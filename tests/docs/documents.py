"""The documentation as data: sections, tables, code."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "delta_mirror"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CELLS = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code, and the document that it stands in."""

    document: Path
    language: str
    text: str


@cache
def text_of(document: Path) -> str:
    """Return the text of *document*."""
    return document.read_text(encoding="utf-8")


def prose_of(document: Path) -> str:
    """Return the text of *document* without its blocks."""
    return _FENCED.sub("", text_of(document))


def blocks(language: str, *documents: Path) -> list[Block]:
    """Return the blocks in *language* of these documents, of all where none is given."""
    return [
        Block(document, found.group(1), found.group(2))
        for document in documents or DOCUMENTS
        for found in _FENCED.finditer(text_of(document))
        if found.group(1) == language
    ]


def spans(document: Path) -> list[str]:
    """Return what stands between backquotes in the running text of *document*."""
    return _SPAN.findall(prose_of(document))


def links(document: Path) -> list[str]:
    """Return what *document* links to."""
    return _LINK.findall(prose_of(document))


def headings(document: Path) -> list[str]:
    """Return the headings of *document*, as written."""
    return [found.group(2) for found in _HEADING.finditer(prose_of(document))]


def section(document: Path, heading: str) -> str:
    """Return what stands under *heading*, up to the next heading of any level."""
    text = prose_of(document)
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{document.name} has no section {heading!r}"
    return found.group(1)


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in *text*, without their heads."""
    lines = [*text.splitlines(), ""]
    return [
        _cells(line)
        for line, next_line in pairwise(lines)
        if line.startswith("|") and not line.startswith("|---") and not next_line.startswith("|---")
    ]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in _CELLS.split(line.strip().strip("|"))]


def code_in(cell: str) -> list[str]:
    """Return what stands between backquotes in *cell*."""
    return _SPAN.findall(cell)


def anchor(heading: str) -> str:
    """Return the anchor that a reader of Markdown makes of *heading*."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def names_of_tests() -> frozenset[str]:
    """Return the names of all test functions, methods too."""
    return frozenset(
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def words_after(text: str, word: str) -> Iterator[str]:
    """Yield every word that stands directly behind *word* in *text*."""
    for found in re.finditer(rf"(?<![\w/.-]){re.escape(word)} ([a-z][a-z-]*)", text):
        yield found.group(1)
