"""Markdown as far as the tests of the documents read it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Document:
    """One Markdown file."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def prose(self) -> str:
        """The text without its code blocks."""
        return _FENCE.sub("", self.text)

    @property
    def links(self) -> list[str]:
        return [match["target"] for match in _LINK.finditer(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """Names of the headings, as GitHub makes them."""
        return {_slug(match["text"]) for match in _HEADING.finditer(self.prose)}

    @property
    def code(self) -> set[str]:
        """Everything between single backticks."""
        return set(_CODE.findall(self.prose))

    def blocks(self, language: str) -> list[str]:
        return [m["text"] for m in _FENCE.finditer(self.text) if m["language"] == language]

    def rows(self, first: str) -> Iterator[str]:
        """Yield table rows whose first cell names `first` in backticks."""
        for line in self.prose.splitlines():
            cells = line.split("|")
            if len(cells) > 2 and f"`{first}`" in cells[1]:
                yield line


def document(name: str) -> Document:
    """Return a document by its path in the repository."""
    return Document(ROOT / name)


def documents() -> list[Document]:
    """Return every document of the repository."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    return [Document(path) for path in sorted(paths)]


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
