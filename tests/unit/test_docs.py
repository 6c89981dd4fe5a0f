"""The documentation names everything there is, its links lead somewhere, its lines are short."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from docs import llms, settings_page
from gateway.errors import INTERNAL, RENDERINGS
from tests.fakes.pages import FENCE, PAGES, ROOT

DOCS = ROOT / "docs"
LONGEST_LINE = 120
NOT_OURS = {"node_modules", "build", "site"}
SHORTEST_DESCRIPTION = 25


def missing(names: Iterable[str], page: str) -> list[str]:
    """Return what a page of the reference does not name."""
    text = (DOCS / "reference" / page).read_text()
    return [name for name in names if f"`{name}`" not in text]


def test_every_setting_says_in_whole_sentences_what_it_means() -> None:
    settings = {
        each.path: each.field.description
        for table in settings_page.ROOT.tables()
        for each in table.settings()
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
    written = settings_page.PAGE.read_text()
    assert written == settings_page.page(), "run `python -m docs.settings_page`"


def test_every_error_code_is_documented() -> None:
    codes = [rendering.code for rendering in (*RENDERINGS.values(), INTERNAL)]

    assert missing(codes, "http-api.md") == []


@pytest.mark.parametrize("page", ["defences.md", "wire-cases.md"])
def test_a_page_that_names_tests_names_those_that_exist(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "explanation" / page).read_text()))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    written = set(re.findall(r"def (test_\w+)\(", sources))

    assert len(named) > 20
    assert named - written == set()


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as links do, on GitHub and on the site."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = (re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings)
    seen: Counter[str] = Counter()
    named = set()
    for slug in slugs:
        named.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return named


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield where the links of a page lead in this repository: a file and an anchor in it."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            yield (page.parent / file if file else page), anchor


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {file.name}#{anchor}"
        for page in PAGES
        for file, anchor in links(page)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]

    assert broken == []


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = {llms.file_of(page) for _, pages in llms.sections() for page in pages.values()}

    here = {page for page in PAGES if page.name != "template.md" and page.parent != ROOT}
    assert here - menu == {DOCS / "README.md"}
    assert [page for page in menu if not page.exists()] == []


def test_the_index_for_language_models_is_current() -> None:
    assert llms.INDEX.read_text(encoding="utf-8") == llms.index(), "run `python -m docs.llms`"


def test_lines_of_markdown_are_short() -> None:
    """A row of a table is one line, however long, and so is a link alone: neither can be broken.

    Python's lines are ruff's to check, in every folder. CHANGELOG.md is left out: its entries
    are of released versions.
    """
    pages = [
        page
        for page in (*ROOT.glob("*.md"), *ROOT.glob("*/**/*.md"), *ROOT.glob(".github/**/*.md"))
        if not NOT_OURS & set(page.relative_to(ROOT).parts)
        and not page.relative_to(ROOT).parts[0].startswith(".venv")
        and page.name != "CHANGELOG.md"
    ]
    long = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in pages
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LONGEST_LINE and not re.match(r"\s*\||\s*(- )?!?\[[^]]*\]\(\S+\)$", line)
    ]

    assert len(pages) > 60
    assert long == []
