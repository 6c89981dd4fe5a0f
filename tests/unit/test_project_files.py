"""The files that tell people how to report, contribute and release."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from release import IMAGES
from tests.fakes.distributions import PYPROJECT

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert targets or page == "CODE_OF_CONDUCT.md"
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_asks_something_under_names_of_its_own(form: Path) -> None:
    content = read_yaml(form)
    asked = [part for part in content["body"] if part["type"] != "markdown"]
    assert {"name", "description", "body"} <= content.keys()
    assert len({part["id"] for part in asked}) == len(asked) >= 2
    assert any(part.get("validations", {}).get("required") for part in asked)


def test_hooks_run_what_the_environment_holds() -> None:
    (repository,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    assert repository["repo"] == "local"
    assert hooks.keys() == {"ruff-format", "ruff-check", "mypy"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks.values())
    assert all(hook["language"] == "system" for hook in hooks.values())


def test_a_tag_is_released_by_the_command_that_people_run() -> None:
    jobs = read_yaml(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    commands = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert any(command.startswith("python3 dev.py release ") for command in commands)
    assert jobs["publish"]["permissions"] == {"id-token": "write"}  # trusted, no token
    assert "password" not in str(jobs["publish"])


@pytest.mark.parametrize("workflow", ["ci", "weekly"])
def test_known_vulnerabilities_are_looked_for(workflow: str) -> None:
    jobs = read_yaml(ROOT / ".github" / "workflows" / f"{workflow}.yml")["jobs"]
    commands = [step.get("run", "") for step in jobs["audit"]["steps"]]
    assert "python3 dev.py audit" in commands


def test_images_are_built_on_bytes_and_not_on_a_tag() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON_IMAGE=\S+:\S+@sha256:[0-9a-f]{64}$", dockerfile, re.MULTILINE)
    sources = set(re.findall(r"^FROM (\S+)(?: AS (\S+))?$", dockerfile, re.MULTILINE))
    stages = {stage for _, stage in sources}
    assert {image for image, _ in sources} - stages == {"${PYTHON_IMAGE}"}
    assert "docker:pinDigests" in (ROOT / "renovate.json").read_text()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.stem)
def test_what_a_workflow_uses_is_named_by_its_commit(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)$", workflow.read_text(), re.MULTILINE)
    assert [name for name in used if not re.fullmatch(r"\S+@[0-9a-f]{40} # v[\d.]+", name)] == []


@pytest.mark.parametrize("workflow", ["ci", "weekly"])
def test_both_images_are_scanned_for_vulnerabilities(workflow: str) -> None:
    job = read_yaml(ROOT / ".github" / "workflows" / f"{workflow}.yml")["jobs"]["images"]
    assert job["strategy"]["matrix"]["target"] == ["gateway", "federation"]
    build, scan = job["steps"][1:]
    assert "--target ${{ matrix.target }}" in build["run"]
    assert "--tag scanned" in build["run"]
    assert scan["uses"].startswith("anchore/scan-action@")
    assert scan["with"]["image"] == "scanned"
    assert scan["with"]["severity-cutoff"] in {"low", "medium", "high"}
    assert "fail-build" not in scan["with"]  # it fails unless told otherwise


def test_a_release_is_published_with_lists_of_what_is_in_it() -> None:
    jobs = read_yaml(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert "dist/*.cdx.json" in str(jobs["announce"]["steps"])
    listed = {
        step["with"]["image"]: step["with"]["output-file"]
        for step in jobs["build"]["steps"]
        if step.get("uses", "").startswith("anchore/sbom-action@")
    }
    assert listed == {
        f"{image}:${{{{ env.VERSION }}}}": f"dist/image-{image}.cdx.json"
        for image in IMAGES.values()
    }


def test_what_is_released_is_signed_by_the_workflow() -> None:
    jobs = read_yaml(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    commands = "\n".join(step.get("run", "") for step in jobs["build"]["steps"])
    assert jobs["build"]["permissions"]["id-token"] == "write"
    files = commands.index("cosign sign-blob --yes --bundle SHA256SUMS.sigstore.json SHA256SUMS")
    assert commands.index("sha256sum image-*.cdx.json >> SHA256SUMS") < files
    assert "dist/SHA256SUMS.sigstore.json" in str(jobs["announce"]["steps"])
    assert f"for image in {' '.join(IMAGES.values())}; do" in commands
    assert 'cosign sign --yes "$pushed"' in commands
    assert "cosign attest --yes --type cyclonedx" in commands
    assert 'cosign sign --yes "$REGISTRY/charts/waypost@$digest"' in commands
    assert "--key" not in commands  # there is none to lose


def test_nothing_but_a_release_may_write_or_sign() -> None:
    for workflow in WORKFLOWS:
        content = read_yaml(workflow)
        assert content["permissions"] == {"contents": "read"}
        if workflow.stem != "release":
            assert not [job for job in content["jobs"].values() if "permissions" in job]


def test_the_project_says_where_it_is_found() -> None:
    project = PYPROJECT["project"]
    assert {"Source", "Documentation", "Changelog", "Issues"} <= project["urls"].keys()
    assert "Typing :: Typed" in project["classifiers"]
    assert all((ROOT / file).is_file() for file in project["license-files"])
