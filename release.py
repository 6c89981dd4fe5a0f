"""Makes a release out of a clean clone: `python3 dev.py release 0.2.0`.

Writes the version where it stands and commits that, builds wheels, source, chart and images into
dist/, with their sums, and tags the commit. It publishes nothing: when the tag arrives,
.github/workflows/release.yml does, by the same command, which on a tagged commit only builds.
How to release: docs/how-to/release.md.
"""

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
IMAGES = {"gateway": "waypost", "federation": "waypost-federation"}
BUILD_ARGUMENTS = ("PYTHON_IMAGE", "PIP_EXTRA_INDEX_URL")
"""Of the Dockerfile, taken from the environment where they are set."""
VERSION_LINES = {
    "pyproject.toml": (r'^version = "(.*)"$',),
    "helm/waypost/Chart.yaml": (r"^version: (.*)$", r"^appVersion: (.*)$"),
}


class NotReady(Exception):
    """Why there is no release, in a sentence."""


def main() -> int:
    """Make the release named on the command line."""
    parser = argparse.ArgumentParser(prog="dev.py release")
    parser.add_argument("version", help="such as 0.2.0")
    version = parser.parse_args().version
    try:
        release(ROOT, version)
    except NotReady as reason:
        print(f"no release: {reason}", file=sys.stderr)
        return 1
    return 0


def release(root: Path, version: str) -> None:
    """Build `version` into dist/ of the clone `root`, and tag it unless that was done.

    Raises:
        NotReady: Something is missing. Where a build failed there is a commit but no tag, and the
            next try goes on from it.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise NotReady(f"{version!r} is no version: three numbers, such as 0.2.0")
    if output(root, "git", "status", "--porcelain"):
        raise NotReady("the clone has changes that are not committed: `git status` shows them")
    is_tagged = tagged(root, version)
    notes = changes((root / "CHANGELOG.md").read_text(), version)
    set_version(root, version)
    if output(root, "git", "status", "--porcelain"):
        run(root, "git", "commit", "--quiet", "--all", "-m", f"Release {version}")
    built = build(root, version)
    (root / "dist" / "NOTES.md").write_text(notes)
    write_sums(root / "dist", built)
    if not is_tagged:
        run(root, "git", "tag", "--annotate", f"v{version}", "-m", f"Waypost {version}")
        print(f"tagged v{version}; to publish: git push origin HEAD v{version}")


def tagged(root: Path, version: str) -> bool:
    """Say whether this very commit has the version's tag.

    Raises:
        NotReady: Another commit has it, or this one has another version in it.
    """
    tag = f"v{version}"
    if not output(root, "git", "tag", "--list", tag):
        return False
    if output(root, "git", "rev-list", "-1", tag) != output(root, "git", "rev-parse", "HEAD"):
        raise NotReady(f"{tag} is the tag of another commit")
    if f'version = "{version}"' not in (root / "pyproject.toml").read_text().splitlines():
        raise NotReady(f"the commit that has the tag {tag} has another version in it")
    return True


def changes(changelog: str, version: str) -> str:
    """Return what the changelog says of a version, its heading left out.

    Raises:
        NotReady: It has no section, or one that is not in the form of Keep a Changelog.
    """
    heading = rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)"
    found = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    if found is None:
        raise NotReady(f"CHANGELOG.md has no section `## {version} - YYYY-MM-DD`")
    parts = re.split(r"^### (.*)\n", found[1], flags=re.MULTILINE)[1:]
    kinds = dict(zip(parts[::2], parts[1::2], strict=True))
    if not kinds.keys() & {"Added", "Changed", "Fixed"} or kinds.keys() - set(KINDS):
        raise NotReady(
            f"the section of {version} in CHANGELOG.md needs `### Added`, `### Changed` or "
            f"`### Fixed`, and may have no headings but {', '.join(KINDS)}"
        )
    empty = [kind for kind, text in kinds.items() if not text.strip().startswith("- ")]
    if empty:
        raise NotReady(f"`### {empty[0]}` of {version} in CHANGELOG.md has no entry")
    return found[1].strip() + "\n"


def set_version(root: Path, version: str) -> None:
    """Write the version where the package and the chart have it."""
    for name, patterns in VERSION_LINES.items():
        file = root / name
        text = file.read_text()
        for pattern in patterns:
            found = re.search(pattern, text, re.MULTILINE)
            if found is None:
                raise NotReady(f"{name} has no line {pattern}")
            text = text[: found.start(1)] + version + text[found.end(1) :]
        file.write_text(text)


def build(root: Path, version: str) -> list[Path]:
    """Build what is published; returns the files."""
    dist = root / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    hatchling = (sys.executable, "-m", "hatchling", "build")
    run(root, *hatchling, "-d", dist / "waypost")
    weights = root / "router_models" / "encoders" / "minilm"
    run(weights, *hatchling, "-t", "wheel", "-d", dist / "waypost-minilm")
    run(root, helm(root), "package", root / "helm" / "waypost", "-d", dist / "chart")
    build_images(root, version)
    return sorted(file for file in dist.rglob("*") if file.is_file())


def helm(root: Path) -> Path:
    """Return where helm is."""
    found = root / ".tools" / "bin" / "helm"
    on_path = shutil.which("helm")
    if not found.exists() and on_path is None:
        raise NotReady("helm is missing: `python3 dev.py release` puts it into .tools/bin")
    return found if found.exists() else Path(str(on_path))


def build_images(root: Path, version: str) -> None:
    """Build and label the images; without a builder, show the commands that would."""
    builder = next((name for name in ("docker", "podman") if works(name)), None)
    if builder is None:
        print("No Docker or Podman that runs here, so no images. Where there is one:")
    commit = output(root, "git", "rev-parse", "HEAD")
    given = [
        part for name in BUILD_ARGUMENTS if name in os.environ for part in ("--build-arg", name)
    ]
    for target, image in IMAGES.items():
        command = [
            *(builder or "docker", "build", "--target", target, "--tag", f"{image}:{version}"),
            *("--label", f"org.opencontainers.image.version={version}"),
            *("--label", f"org.opencontainers.image.revision={commit}"),
            *(*given, "."),
        ]
        if builder is None:
            print(" ", shlex.join(command))
        else:
            run(root, *command)


def works(builder: str) -> bool:
    """Say whether a builder is installed and has what it needs running."""
    return shutil.which(builder) is not None and (
        subprocess.run([builder, "info"], capture_output=True, check=False).returncode == 0
    )


def write_sums(dist: Path, files: list[Path]) -> None:
    """Write SHA256SUMS in the form that `sha256sum --check` reads."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(dist)}\n"
        for file in files
    ]
    (dist / "SHA256SUMS").write_text("".join(lines))
    print("".join(lines), end="")


def run(folder: Path, *command: str | Path) -> None:
    """Run a command.

    Raises:
        NotReady: It failed.
    """
    words = [str(word) for word in command]
    if subprocess.run(words, cwd=folder, check=False).returncode != 0:
        raise NotReady(f"this failed: {shlex.join(words)}")


def output(folder: Path, *command: str) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
