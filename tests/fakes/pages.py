"""The documentation as tests read it: pages, blocks of code, command lines."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
)
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        place: Page and line, for messages.
        language: What the fence says; empty where it says nothing.
    """

    place: str
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in these languages, or all blocks."""
    return [
        Block(f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, at) + 1}", language, inside)
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for at, language, inside in (
            (found.start(), found[2], found[3]) for found in FENCE.finditer(text)
        )
        if not languages or language in languages
    ]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the words of every command in a block of shell."""
    for block in blocks("sh", "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            # An unclosed quote goes on in the next lines: the body of a request.
            words = _words(line)
            while words and "=" in words[0]:
                words = words[1:]
            if words:
                yield block.place, words


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return shlex.split(line + "'", comments=True)


def inline_code() -> Iterator[tuple[str, str]]:
    """Yield the place and the text of every piece of code within a paragraph or a table."""
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for code in re.findall(r"`([^`]+)`", text):
            yield str(page.relative_to(ROOT)), " ".join(code.split())
