"""Reads the documentation: pages, code blocks, tables, headings, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
DOCS = PROJECT / "docs"
REFERENCE = DOCS / "reference"
README = PROJECT / "README.md"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w/]+\.py)(, at the end)?$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``line`` is where its text begins."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"

    @property
    def file(self) -> tuple[str, bool] | None:
        """The file that the first line names, and whether the block goes to its end."""
        found = _FILE.match(self.text.partition("\n")[0])
        return (found[1], bool(found[2])) if found else None


def pages() -> list[Path]:
    """Every page a reader may open."""
    return [
        README,
        PROJECT / "CONTRIBUTING.md",
        PROJECT / "CHANGELOG.md",
        *sorted(DOCS.rglob("*.md")),
    ]


def blocks(page: Path, language: str = "") -> list[Block]:
    """The fenced blocks of a page, of one language or of all."""
    text = page.read_text()
    found = [
        Block(page, text.count("\n", 0, match.start()) + 2, match[1], match[2])
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if language in ("", block.language)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text())


def section(page: Path, heading: str) -> str:
    """The text under ``heading``, up to the next one of its level or above."""
    text = page.read_text()
    begin = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert begin, f"{page} has no heading {heading!r}"
    end = re.search(rf"^#{{1,{len(begin[1])}}} ", text[begin.end() :], re.MULTILINE)
    return text[begin.end() :][: end.start() if end else None]


def table(text: str) -> Iterator[list[str]]:
    """The rows of the Markdown tables in ``text``, without their heads."""
    for line in text.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0].startswith("`"):
            yield cells


def code(cell: str) -> str:
    """What stands in backticks at the beginning of a cell."""
    found = re.match(r"`([^`]+)`", cell)
    assert found, f"{cell!r} does not begin with code"
    return found[1]


def listed(page: Path, heading: str) -> set[str]:
    """What the tables under ``heading`` describe: the code in their first column."""
    return {code(row[0]) for row in table(section(page, heading))}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {_anchor(heading) for heading in headings}


def _anchor(heading: str) -> str:
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
