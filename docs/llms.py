"""The documentation for language models: https://llmstxt.org.

`python -m docs.llms` writes `docs/llms.txt`, an index of all pages; a test says when it is out of
date. The site holds it too, beside `llms-full.txt`, all pages in one text, which only the site's
build makes (`docs/site.py`).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
INDEX: Final = ROOT / "docs" / "llms.txt"
OUTSIDE: Final = ("benchmarks/", "tests/")
"""Folders beside `docs/` that hold pages of the site."""


def file_of(page: str) -> Path:
    """Find a page of the site's navigation in the repository."""
    return ROOT / page if page.startswith(OUTSIDE) else ROOT / "docs" / page


def sections() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the sections of the navigation, each with its pages by title."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    for entry in config["nav"]:
        ((title, pages),) = entry.items()
        if not isinstance(pages, str):
            yield title, {name: page for each in pages for name, page in each.items()}


def summary(page: str) -> str:
    """Return the first sentence of a page, as plain text."""
    text = file_of(page).read_text(encoding="utf-8")
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    first = next(part for part in paragraphs if re.match(r"[\w*[]|`(?!``)", part))
    first = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", first).replace("**", "")
    sentence = re.match(r".+?[.:?](?= [A-Z`]|$)", first.removeprefix("Decision. "))
    return (sentence[0] if sentence else first).rstrip(".:") + "."


def index() -> str:
    """Write `llms.txt`."""
    title, about = (ROOT / "README.md").read_text(encoding="utf-8").split("\n\n")[:2]
    lines = [title, "", "> " + " ".join(about.split()), ""]
    for section, pages in sections():
        lines += [f"## {section}", ""]
        lines += [f"- [{name}]({page}): {summary(page)}" for name, page in pages.items()]
        lines.append("")
    return "\n".join(lines)


def full() -> str:
    """Write `llms-full.txt`: every page, each below its address."""
    pages = [page for _, each in sections() for page in each.values()]
    texts = (file_of(page).read_text(encoding="utf-8").strip() for page in pages)
    return "\n\n".join(
        f"<!-- {page} -->\n\n{text}" for page, text in zip(pages, texts, strict=True)
    )


if __name__ == "__main__":
    INDEX.write_text(index(), encoding="utf-8")
