"""What installing this project brings along, by what is declared and by what is installed."""

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Built from this tree: a clone has what is in it, so nothing need be installed or locked.
OURS = {"waypost", "waypost-minilm"}
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]


def declared(extra: str = "") -> list[Requirement]:
    """Read what the project itself requires, with one of its extras alone."""
    texts = EXTRAS[extra] if extra else PYPROJECT["project"]["dependencies"]
    return [Requirement(text) for text in texts]


@cache
def requirements_of(name: str) -> tuple[Requirement, ...]:
    """Read what a distribution requires anywhere, with any of its extras."""
    return tuple(Requirement(text) for text in distribution(name).requires or ())


def required(name: str, extra: str) -> list[Requirement]:
    """Read what a distribution requires here; ours from what is declared, not from its build."""
    if name == "waypost":
        return declared(extra)
    found = () if name in OURS else requirements_of(name)
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": extra})]


def brought_along(extras: Iterable[str]) -> set[str]:
    """Name every distribution that installing the project with these extras brings along.

    Raises:
        PackageNotFoundError: One of them is not installed here, so it cannot be asked.
    """
    waiting = [Requirement(f"waypost[{','.join(extras)}]")]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        new = {(canonicalize_name(wanted.name), extra) for extra in ("", *wanted.extras)} - seen
        waiting += [each for name, extra in new for each in required(name, extra)]
        seen |= new
    return {name for name, _ in seen}
