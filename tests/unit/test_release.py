"""`python3 dev.py release`, on a small clone of a project like this one."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from release import VERSION_LINES, NotReady, changes, release
from tests.fakes.tools import find_tool

ROOT = Path(__file__).resolve().parents[2]
REAL_LISTER = ROOT / ".venv-audit" / "bin" / "cyclonedx-py"
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
DIGEST = f"sha256:{'ab' * 32}"
DOCKERFILE = f"ARG PYTHON_IMAGE=python:3.11-slim@{DIGEST}\nFROM ${{PYTHON_IMAGE}}\n"
LOCK = f"""# A comment
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:{"1" * 64} \\
    --hash=sha256:{"2" * 64}
    # via waypost
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:{"3" * 64}
grafana-foundation-sdk==1!10.1.0 \\
    --hash=sha256:{"4" * 64}
"""
CONSTRAINTS = "# Why.\ntorch==2.13.0\ngrafana-foundation-sdk==1!10.1.0\n"
# Stands in for cyclonedx-py: lists what it is told on its standard input, but not `without`.
LISTER = """#!{python}
import json, sys
pins = [line.split()[0].split("==") for line in sys.stdin if not line.startswith({without!r})]
parts = [dict(name=name, version=version) for name, version in pins]
print(json.dumps(dict(metadata=dict(component=dict(name="waypost")), components=parts)))
"""
# Stands in for docker: notes what it is told.
BUILDER = """#!{python}
import pathlib, sys
with pathlib.Path({log!r}).open("a") as log:
    log.write(" ".join(sys.argv[1:]) + chr(10))
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


def program(file: Path, form: str, **given: str) -> None:
    """Write an executable script."""
    file.write_text(form.format(python=sys.executable, **given))
    file.chmod(0o755)


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
    program(programs / "cyclonedx-py", LISTER, without="nothing")
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
    write(clone / "requirements.lock", LOCK)
    write(clone / "constraints.txt", CONSTRAINTS)
    write(clone / "Dockerfile", DOCKERFILE)
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
        "waypost-0.2.0.cdx.json",
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


def test_lists_what_is_locked_and_whose_list_it_is(clone: Path) -> None:
    release(clone, "0.2.0")

    listed = json.loads((clone / "dist" / "waypost-0.2.0.cdx.json").read_text())
    assert [(each["name"], each["version"]) for each in listed["components"]] == [
        ("numpy", "2.4.6"),
        ("numpy", "2.5.5"),
        ("grafana-foundation-sdk", "1!10.1.0"),
        ("torch", "2.13.0"),
    ]
    (wheel,) = (clone / "dist" / "waypost").glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert listed["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": digest}]


def test_refuses_a_list_that_leaves_something_out(clone: Path) -> None:
    program(Path(os.environ["PATH"]) / "cyclonedx-py", LISTER, without="numpy==2.5.5")
    with pytest.raises(NotReady, match=r"lacks numpy==2\.5\.5$"):
        release(clone, "0.2.0")
    assert git(clone, "tag") == ""


def test_refuses_to_go_on_where_the_lister_fails(clone: Path) -> None:
    program(Path(os.environ["PATH"]) / "cyclonedx-py", "#!{python}\nraise SystemExit(3)\n")
    with pytest.raises(NotReady, match=r"this failed: .*cyclonedx-py requirements"):
        release(clone, "0.2.0")


@pytest.mark.skipif(not REAL_LISTER.exists(), reason="`python3 dev.py audit` installs it")
def test_the_real_lister_lists_every_package_of_our_own_lock(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lister = Path(os.environ["PATH"]) / "cyclonedx-py"
    lister.unlink()
    lister.symlink_to(REAL_LISTER)
    for name in ("requirements.lock", "constraints.txt"):
        shutil.copy(ROOT / name, clone / name)
    git(clone, "commit", "--quiet", "--all", "-m", "Our lock")

    release(clone, "0.2.0")  # refuses a list that lacks one

    listed = json.loads((clone / "dist" / "waypost-0.2.0.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    assert len(listed["components"]) > 150


def images_built(clone: Path) -> list[str]:
    """Release with a builder of images, and return how it was told to build them."""
    log = clone.parent / "builder.log"
    program(Path(os.environ["PATH"]) / "docker", BUILDER, log=str(log))
    release(clone, "0.2.0")
    return [line for line in log.read_text().splitlines() if line.startswith("build ")]


def test_builds_on_the_digest_of_the_dockerfile_and_says_so(clone: Path) -> None:
    built = images_built(clone)
    assert len(built) == 2
    for line in built:
        assert f"--build-arg PYTHON_IMAGE=python:3.11-slim@{DIGEST} " in line
        assert f"--label org.opencontainers.image.base.name=python:3.11-slim@{DIGEST} " in line


def test_builds_on_the_digest_that_is_given(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_IMAGE", f"mirror/python@{DIGEST}")
    assert f"--build-arg PYTHON_IMAGE=mirror/python@{DIGEST} " in images_built(clone)[-1]


def test_refuses_to_build_on_an_image_without_a_digest(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_IMAGE", "python:3.11-slim")
    with pytest.raises(NotReady, match=r"has no digest: python:3\.11-slim"):
        images_built(clone)


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
