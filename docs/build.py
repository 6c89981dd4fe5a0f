"""Build the documentation's site: `python -m docs.build`, by way of `python3 dev.py docs`.

The site holds the pages of `docs/`, and those of `benchmarks/` and `tests/data/`, which lie beside
the code that measures. So all are copied into one folder first, their links adapted, and the
generator runs there; it fails on a link to a page or heading that does not exist. For language
models every page is on the site a second time, as Markdown, and `llms-full.txt` has them all.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from docs import llms

STAGE: Final = llms.ROOT / "build" / "docs"
SITE: Final = llms.ROOT / "site"


def main() -> int:
    """Build into `site/` and return the generator's exit status."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(llms.ROOT / "docs", STAGE / "docs", ignore=shutil.ignore_patterns("__*"))
    shutil.copy(llms.ROOT / "mkdocs.yml", STAGE)
    pages = [page for _, each in llms.sections() for page in each.values()]
    for page in pages:
        stage(page)
    zensical = Path(sys.executable).with_name("zensical")
    status = subprocess.call([zensical, "build", "--strict", "--clean"], cwd=STAGE)
    if status == 0:
        for page in pages:
            shutil.copy(llms.file_of(page), STAGE / "site" / page)
        (STAGE / "site" / "llms-full.txt").write_text(llms.full(), encoding="utf-8")
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.move(STAGE / "site", SITE)
    return status


def stage(page: str) -> None:
    """Put one page, and pictures beside it, where the generator looks; adapt its links."""
    source, target = llms.file_of(page), STAGE / "docs" / page
    target.parent.mkdir(parents=True, exist_ok=True)
    text = source.read_text(encoding="utf-8")
    if page.startswith(llms.OUTSIDE):
        # Here docs/ is the root of all pages.
        text = re.sub(r"(\]\((?:\.\./)+)docs/", r"\1", text)
        text = text.replace("<details>", '<details markdown="1">')
        for picture in source.parent.glob("*.png"):
            shutil.copy(picture, target.parent)
    else:
        text = re.sub(r"\]\(\.\./((?:\.\./)*(?:benchmarks|tests)/)", r"](\1", text)
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
