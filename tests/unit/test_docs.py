"""Each setting, error code and metric is in docs/reference/."""

import re
from collections.abc import Iterable
from pathlib import Path

from docs.settings_page import PAGE, ROOT, page
from gateway.errors import INTERNAL, RENDERINGS

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHORTEST_DESCRIPTION = 25


def missing(names: Iterable[str], page: str) -> list[str]:
    """Return what a page of the reference does not name."""
    text = (DOCS / "reference" / page).read_text()
    return [name for name in names if f"`{name}`" not in text]


def test_every_setting_says_in_whole_sentences_what_it_means() -> None:
    settings = {
        each.path: each.field.description for table in ROOT.tables() for each in table.settings()
    }

    assert "server.port" in settings
    assert "models.NAME.price.input_usd_per_mtok" in settings
    vague = [
        path
        for path, text in settings.items()
        if not text or len(text) < SHORTEST_DESCRIPTION or not text.endswith(".")
    ]
    assert vague == []


def test_the_page_of_settings_says_what_the_settings_say() -> None:
    assert PAGE.read_text() == page(), "run `python -m docs.settings_page`"


def test_every_error_code_is_documented() -> None:
    codes = [rendering.code for rendering in (*RENDERINGS.values(), INTERNAL)]

    assert missing(codes, "http-api.md") == []


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    broken = [
        f"{page.relative_to(DOCS.parent)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
