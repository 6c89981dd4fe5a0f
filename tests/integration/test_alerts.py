"""The alert rules, checked and tried with promtool, and their explanations."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

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


def expectations(name: str) -> list[bool]:
    """Return, for each time an alert is looked at, whether it must speak."""
    trials = [trial for file in TRIALS for trial in yaml.safe_load(file.read_text())["tests"]]
    looks = [look for trial in trials for look in trial["alert_rule_test"]]
    return [bool(look["exp_alerts"]) for look in looks if look["alertname"] == name]


def test_the_rules_are_valid():
    promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda path: path.stem)
def test_alerts_speak_when_they_should_and_only_then(trial):
    promtool("test", "rules", trial)


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_was_seen_to_speak_and_to_be_silent(name):
    assert {True, False} <= set(expectations(name))


@pytest.mark.parametrize("rule", read_rules(), ids=NAMES)
def test_an_alert_is_explained(rule):
    heading = f"### {rule['alert']}\n"

    assert heading in PAGE
    assert rule["annotations"]["runbook"] == f"docs/reference/alerts.md#{rule['alert'].lower()}"
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_nothing_is_explained_that_does_not_exist():
    assert sorted(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) == sorted(NAMES)
