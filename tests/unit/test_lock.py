"""Everything that any extra brings along is locked, for every platform, with its hash."""

import json
import re
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import cast

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import dev
from tests.fakes.distributions import (
    EXTRAS,
    OURS,
    PYPROJECT,
    ROOT,
    brought_along,
    declared,
    requirements_of,
)

pytestmark = pytest.mark.xdist_group("locks")  # what is installed is read once
LOCKS = tuple(dev.LOCKS)
# One version of torch has a build for each kind of machine, all with other hashes:
# docs/decisions/dependencies.md.
PINNED_WITHOUT_HASH = {"torch": "constraints.txt"}
# Other versions, as `dev.py --versions` installs by intent, bring other packages along.
installed_from_the_lock = pytest.mark.skipif(
    Path(sys.prefix).name in {".venv-newest", ".venv-lowest"}, reason="not what is locked"
)
PLATFORMS: list[dict[str, str]] = [
    {
        **cast("dict[str, str]", default_environment()),
        "python_version": minor,
        "python_full_version": f"{minor}.5",
        "sys_platform": platform,
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[platform],
        "platform_machine": machine,
    }
    for minor in ("3.11", "3.12", "3.13")
    for platform, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
]


@cache
def entries(file: str) -> list[tuple[Requirement, int]]:
    """Read a lock: each requirement with the number of its hashes."""
    text = (ROOT / file).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return [(Requirement(line.split(" --")[0]), line.count("--hash=sha256:")) for line in lines]


@cache
def installed() -> frozenset[str]:
    """Name every distribution that any extra brings along."""
    return frozenset(brought_along(EXTRAS))


def locked(environment: dict[str, str] | None = None) -> dict[str, Version]:
    """Return what is pinned for an environment, by default this one."""
    pinned = [requirement for requirement, _ in entries("requirements.lock")]
    pinned += [requirement for requirement, _ in entries("constraints.txt")]
    return {
        canonicalize_name(r.name): Version(str(r.specifier).removeprefix("=="))
        for r in pinned
        if r.marker is None or r.marker.evaluate(environment)
    }


@installed_from_the_lock
def test_whatever_an_extra_brings_along_is_locked():
    assert installed() - OURS - locked().keys() == set()


@pytest.mark.parametrize(
    "environment", PLATFORMS, ids=lambda e: f"{e['python_version']}-{e['sys_platform']}"
)
def test_what_is_locked_is_what_the_project_allows_on_every_platform(environment):
    pinned = locked(environment)
    wanted = [each for extra in ("", *EXTRAS) for each in declared(extra) if each.name not in OURS]

    assert [str(r) for r in wanted if not r.specifier.contains(pinned[r.name.lower()])] == []


@installed_from_the_lock
def test_what_packages_require_of_each_other_is_locked_for_other_platforms_too():
    """Markers of what is installed are read for platforms that this is not."""
    missing = set()
    for environment in PLATFORMS:
        pinned = locked(environment)
        for name in installed() - {*OURS, *PINNED_WITHOUT_HASH}:
            for required in requirements_of(name):
                marker = required.marker or Marker("python_version > '3'")
                if "extra" in str(marker) or not marker.evaluate(environment):
                    continue
                if canonicalize_name(required.name) not in pinned:
                    missing.add((environment["sys_platform"], name, required.name))

    assert missing == set()


@pytest.mark.parametrize("file", LOCKS)
def test_every_pin_has_a_version_and_hashes(file):
    unpinned = [
        str(requirement)
        for requirement, n_hashes in entries(file)
        if n_hashes == 0 or not re.fullmatch(r"==[^,*]+", str(requirement.specifier))
    ]
    assert entries(file)
    assert unpinned == []


def test_what_has_no_hash_has_at_least_its_version():
    for name, file in PINNED_WITHOUT_HASH.items():
        assert [r for r, _ in entries(file) if r.name == name and str(r.specifier)[:2] == "=="]


@pytest.mark.parametrize("file", [*LOCKS, "tests/integration/node/package-lock.json"])
def test_a_lock_names_no_registry(file):
    text = (ROOT / file).read_text()

    assert "://" not in text
    assert "--index-url" not in text


def test_the_node_packages_of_the_tests_are_locked_with_their_hashes():
    folder = ROOT / "tests" / "integration" / "node"
    lock = json.loads((folder / "package-lock.json").read_text())["packages"]

    assert (
        lock[""]["dependencies"]
        == json.loads((folder / "package.json").read_text())["dependencies"]
    )
    assert all("integrity" in entry for path, entry in lock.items() if path)


def test_what_dev_py_fetches_by_itself_is_locked():
    groups = PYPROJECT["dependency-groups"]
    assert set(groups) == {"audit", "pip", "tools"}
    for group, texts in groups.items():
        wanted = {canonicalize_name(Requirement(text).name) for text in texts}
        held = {canonicalize_name(r.name) for r, _ in entries(f"requirements-{group}.lock")}
        # What looks at others is installed with what it requires, the rest by itself.
        assert wanted <= held if group == "audit" else wanted == held


@installed_from_the_lock
def test_this_environment_holds_what_is_locked():
    pinned = locked()
    here = {name: Version(version(name)) for name in installed() - OURS}

    assert {n: v for n, v in here.items() if v.public != pinned[n].public} == {}
