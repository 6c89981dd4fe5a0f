"""The files that tell people how to report, contribute and release."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.distributions import PYPROJECT

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
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


def test_a_release_is_published_with_the_list_of_what_is_in_it() -> None:
    jobs = read_yaml(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert "dist/*.cdx.json" in str(jobs["announce"]["steps"])


def test_the_project_says_where_it_is_found() -> None:
    project = PYPROJECT["project"]
    assert {"Source", "Documentation", "Changelog", "Issues"} <= project["urls"].keys()
    assert "Typing :: Typed" in project["classifiers"]
    assert all((ROOT / file).is_file() for file in project["license-files"])
