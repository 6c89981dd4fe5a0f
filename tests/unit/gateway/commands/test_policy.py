import json

import pytest
from click.testing import CliRunner

from budget.policies.artifact import read_manifest
from gateway.commands.policy import command
from tests.fakes.artifacts import router_artifact
from tests.fakes.policies import policy_artifact

FILES = {"first": policy_artifact(0), "second": policy_artifact(1), "router": router_artifact()}
VERSIONS = tuple(read_manifest(FILES[name]).version for name in ("first", "second"))


@pytest.fixture
def waypost(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("WAYPOST_CONFIG", raising=False)
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)

    def run(*arguments: str):
        given = [str(tmp_path / a) if a in FILES else a for a in arguments]
        return CliRunner().invoke(command, given)

    return run


def test_an_empty_store_says_what_proposes_and_what_to_do(waypost):
    said = waypost("list").output
    assert "turn_budgets.policy proposes" in said
    assert "waypost policy import FILE" in said


def test_imports_activates_and_lists(waypost):
    assert f"waypost policy activate {VERSIONS[0]}" in waypost("import", "first").output
    said = waypost("import", "second", "--activate").output
    assert f"active: {VERSIONS[1]} (256/512/1024/2048/4096 tokens, encoder" in said
    lines = waypost("list").output.splitlines()
    assert sorted(line[:2] for line in lines) == ["  ", "* "]


def test_rolls_back(waypost):
    waypost("import", "first", "--activate")
    waypost("import", "second", "--activate")
    assert f"active: {VERSIONS[0]}" in waypost("rollback").output
    assert waypost("rollback").exit_code == 1


def test_shows_the_manifest(waypost):
    waypost("import", "first")
    shown = json.loads(waypost("show", VERSIONS[0]).output)
    assert shown["choices"] == [256, 512, 1024, 2048, 4096]
    assert shown["features_version"] == 1


def test_a_router_is_no_policy(waypost):
    result = waypost("import", "router")
    assert result.exit_code == 1
    assert "budget policy" in result.output
