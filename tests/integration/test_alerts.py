"""The alert rules, checked and tried with promtool, and their explanations."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from helm.reference import SITE
from tests.fakes.alerts import ROOT, RULES, read_rules
from tests.fakes.tools import find_tool

TRIALS = sorted((ROOT / "tests" / "data" / "alerts").glob("*.yaml"))
NAMES = [rule["alert"] for rule in read_rules()]
PAGE = (ROOT / "docs" / "reference" / "alerts.md").read_text()


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [find_tool("promtool"), *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def expectations() -> dict[str, set[bool]]:
    """Return whether an alert must speak, over the times that it is looked at, by its name."""
    found: dict[str, set[bool]] = {name: set() for name in NAMES}
    for file in TRIALS:
        for trial in yaml.load(file.read_text(), yaml.CSafeLoader)["tests"]:
            for look in trial["alert_rule_test"]:
                found[look["alertname"]].add(bool(look["exp_alerts"]))
    return found


def test_the_rules_are_valid():
    promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda path: path.stem)
def test_alerts_speak_when_they_should_and_only_then(trial):
    promtool("test", "rules", trial)


def test_every_alert_was_seen_to_speak_and_to_be_silent():
    seen = expectations()

    assert {name: ways for name, ways in seen.items() if ways != {True, False}} == {}


def test_every_alert_is_explained():
    for rule in read_rules():
        name, notes = rule["alert"], rule["annotations"]

        assert f"### {name}\n" in PAGE
        assert notes["runbook_url"] == f"{SITE}reference/alerts.md#{name.lower()}", name
        assert notes["summary"].endswith("."), name
        assert rule["labels"]["severity"] in {"page", "ticket"}, name


def test_nothing_is_explained_that_does_not_exist():
    assert sorted(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) == sorted(NAMES)
