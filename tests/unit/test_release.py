"""`python3 dev.py release`, on a small clone of a project like this one."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from release import VERSION_LINES, NotReady, changes, release
from tests.fakes.tools import find_tool

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = """# Changelog

## Unreleased

## 0.2.0 - 2026-12-01

### Added

- A thing.

## 0.1.0 - 2026-11-01

### Added

- The first thing.
"""
PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
requires-python = ">=3.11"
version = "0.1.0"
[tool.hatch.build.targets.wheel]
only-include = ["pyproject.toml"]
"""
CHART = "apiVersion: v2\nname: waypost\nversion: 0.1.0\nappVersion: 0.1.0\n"


def git(clone: Path, *arguments: str) -> str:
    ended = subprocess.run(
        ("git", *arguments), cwd=clone, check=True, capture_output=True, text=True
    )
    return ended.stdout.strip()


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Committed, without a builder of images on the PATH."""
    found = shutil.which("git")
    if found is None:
        pytest.skip("git is not installed")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(found)
    (programs / "helm").symlink_to(find_tool("helm"))
    monkeypatch.setenv("PATH", str(programs))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A maintainer")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "maintainer@example.org")
    clone = tmp_path / "clone"
    write(clone / "CHANGELOG.md", CHANGELOG)
    write(clone / ".gitignore", "dist/\n")
    write(clone / "pyproject.toml", PROJECT.format(name="waypost"))
    weights = clone / "router_models" / "encoders" / "minilm"
    write(weights / "pyproject.toml", PROJECT.format(name="waypost-minilm"))
    write(clone / "helm" / "waypost" / "Chart.yaml", CHART)
    git(clone, "init", "--quiet")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "-m", "A project")
    return clone


def test_builds_everything_and_tags_it(clone: Path, capfd: pytest.CaptureFixture[str]) -> None:
    release(clone, "0.2.0")

    assert git(clone, "tag", "--points-at", "HEAD") == "v0.2.0"
    assert git(clone, "log", "-1", "--format=%s") == "Release 0.2.0"
    assert git(clone, "status", "--porcelain") == ""
    assert "docker build --target federation" in capfd.readouterr().out
    dist = clone / "dist"
    assert (dist / "NOTES.md").read_text() == "### Added\n\n- A thing.\n"
    sums = dict(line.split("  ")[::-1] for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {
        "chart/waypost-0.2.0.tgz",
        "waypost/waypost-0.2.0-py3-none-any.whl",
        "waypost/waypost-0.2.0.tar.gz",
        "waypost-minilm/waypost_minilm-0.1.0-py3-none-any.whl",
    }
    for name, digest in sums.items():
        assert hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest


def test_on_a_tagged_commit_builds_the_same_and_changes_nothing(clone: Path) -> None:
    release(clone, "0.2.0")
    commit = git(clone, "rev-parse", "HEAD")
    first = sums_of_python(clone)
    release(clone, "0.2.0")

    assert git(clone, "rev-parse", "HEAD") == commit
    assert sums_of_python(clone) == first


def sums_of_python(clone: Path) -> list[str]:
    """Return the sums of wheels and source."""
    lines = (clone / "dist" / "SHA256SUMS").read_text().splitlines()
    return [line for line in lines if "chart/" not in line]


def test_refuses_a_tag_of_another_commit(clone: Path) -> None:
    git(clone, "tag", "v0.2.0")
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "Later")
    with pytest.raises(NotReady, match=r"v0\.2\.0 is the tag of another commit"):
        release(clone, "0.2.0")


def test_refuses_a_tagged_commit_with_another_version_in_it(clone: Path) -> None:
    git(clone, "tag", "v0.2.0")
    with pytest.raises(NotReady, match="has another version in it"):
        release(clone, "0.2.0")
    assert git(clone, "status", "--porcelain") == ""


def test_refuses_changes_that_are_not_committed(clone: Path) -> None:
    write(clone / "new.py", "")
    with pytest.raises(NotReady, match="not committed"):
        release(clone, "0.2.0")


def test_after_a_build_that_failed_the_next_try_goes_on(clone: Path) -> None:
    helm = Path(os.environ["PATH"]) / "helm"
    away = helm.rename(clone.parent / "helm")
    with pytest.raises(NotReady, match="helm is missing"):
        release(clone, "0.2.0")
    assert git(clone, "tag") == ""

    away.rename(helm)
    release(clone, "0.2.0")
    assert git(clone, "tag", "--points-at", "HEAD") == "v0.2.0"
    assert git(clone, "log", "--format=%s") == "Release 0.2.0\nA project"


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "1.0.0rc1"])
def test_refuses_what_is_no_version(clone: Path, version: str) -> None:
    with pytest.raises(NotReady, match="is no version"):
        release(clone, version)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("## 0.2.0 - 2026-12-01", "## 0.2.0", "no section"),
        ("### Added\n\n- A thing.\n", "A thing.\n", "needs `### Added`"),
        ("- A thing.\n", "- A thing.\n\n### Misc\n\n- More.\n", "no headings but Added"),
        ("- A thing.\n", "", "`### Added` of 0.2.0 in CHANGELOG.md has no entry"),
    ],
)
def test_refuses_a_changelog_that_does_not_say_what_changed(
    old: str, new: str, reason: str
) -> None:
    with pytest.raises(NotReady, match=reason):
        changes(CHANGELOG.replace(old, new), "0.2.0")


def test_package_and_chart_have_one_version() -> None:
    lines = {
        line.partition(":")[2].strip() or line.partition("=")[2].strip().strip('"')
        for name in VERSION_LINES
        for line in (ROOT / name).read_text().splitlines()
        if line.startswith(("version", "appVersion"))
    }
    assert len(lines) == 1
