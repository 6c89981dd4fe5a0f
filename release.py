"""Makes a release out of a clean clone: `python3 dev.py release 0.2.0`.

Writes the version where it stands and commits that, builds wheels, source, chart and images into
dist/, with a list of what is in them and their sums, and tags the commit. It publishes nothing:
when the tag arrives, .github/workflows/release.yml does, by the same command, which on a tagged
commit only builds.
How to release: docs/how-to/release.md.
"""

import argparse
import hashlib
import json
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
BUILD_ARGUMENTS = ("PIP_EXTRA_INDEX_URL",)
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
    helm = tool(root, "helm", ".tools")
    run(root, helm, "package", root / "helm" / "waypost", "-d", dist / "chart")
    write_sbom(root, dist / f"waypost-{version}.cdx.json")
    build_images(root, version)
    return sorted(file for file in dist.rglob("*") if file.is_file())


def tool(root: Path, name: str, folder: str) -> Path:
    """Return where a tool is: in `folder`, else on the PATH."""
    found = root / folder / "bin" / name
    on_path = shutil.which(name)
    if not found.exists() and on_path is None:
        raise NotReady(f"{name} is missing: `python3 dev.py release` puts it into {folder}/bin")
    return found if found.exists() else Path(str(on_path))


def write_sbom(root: Path, file: Path) -> None:
    """List in CycloneDX's form what the wheel may bring along, at the locked versions.

    Raises:
        NotReady: The tool failed, or left something out.
    """
    pinned = pins(root)
    maker = tool(root, "cyclonedx-py", ".venv-audit")
    command = (maker, "requirements", "--pyproject", "pyproject.toml", "--output-reproducible", "-")
    made = subprocess.run(
        command, cwd=root, check=False, input="\n".join(pinned), stdout=subprocess.PIPE, text=True
    )
    if made.returncode != 0:
        raise NotReady(f"this failed: {shlex.join(map(str, command))}")
    listed = json.loads(made.stdout)
    components = {f"{each['name']}=={each['version']}" for each in listed["components"]}
    missing = sorted({line.split()[0] for line in pinned} - components)
    if missing:
        raise NotReady(f"the list of what is in the release lacks {', '.join(missing)}")
    # Which bytes the list is of.
    (wheel,) = (file.parent / "waypost").glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    listed["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": digest}]
    file.write_text(json.dumps(listed, indent=2) + "\n")


def pins(root: Path) -> list[str]:
    """Return what is locked, a line each with its hashes, and what constraints.txt adds to it."""
    locked, constraints = (
        re.findall(r"^[\w.-]+==.*$", (root / name).read_text().replace("\\\n", " "), re.MULTILINE)
        for name in ("requirements.lock", "constraints.txt")
    )
    known = {line.partition("==")[0] for line in locked}
    return [*locked, *(line for line in constraints if line.partition("==")[0] not in known)]


def build_images(root: Path, version: str) -> None:
    """Build and label the images; without a builder, show the commands that would."""
    builder = next((name for name in ("docker", "podman") if works(name)), None)
    if builder is None:
        print("No Docker or Podman that runs here, so no images. Where there is one:")
    commit = output(root, "git", "rev-parse", "HEAD")
    base = base_image(root)
    given = ["--build-arg", f"PYTHON_IMAGE={base}"]
    given += [
        part for name in BUILD_ARGUMENTS if name in os.environ for part in ("--build-arg", name)
    ]
    for target, image in IMAGES.items():
        command = [
            *(builder or "docker", "build", "--target", target, "--tag", f"{image}:{version}"),
            *("--label", f"org.opencontainers.image.version={version}"),
            *("--label", f"org.opencontainers.image.revision={commit}"),
            *("--label", f"org.opencontainers.image.base.name={base}"),
            *(*given, "."),
        ]
        if builder is None:
            print(" ", shlex.join(command))
        else:
            run(root, *command)


def base_image(root: Path) -> str:
    """Return the image to build on, by its digest: the Dockerfile's, or PYTHON_IMAGE's.

    Raises:
        NotReady: It is a tag, which stands for other bytes tomorrow.
    """
    declared = re.search(
        r"^ARG PYTHON_IMAGE=(\S+)$", (root / "Dockerfile").read_text(), re.MULTILINE
    )
    if declared is None:
        raise NotReady("the Dockerfile has no line ARG PYTHON_IMAGE=...")
    image = os.environ.get("PYTHON_IMAGE", declared[1])
    if not re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", image):
        raise NotReady(f"the image to build on has no digest: {image}")
    return image


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
