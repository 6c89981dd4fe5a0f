import json

import pytest
from click.testing import CliRunner

from gateway.artifacts.store import ArtifactStore
from gateway.commands.router import command
from router_models.artifacts.artifact import read_manifest
from router_models.artifacts.assessment import Assessment
from tests.fakes.artifacts import CREATED_AT, router_artifact

FIRST, SECOND = router_artifact(0), router_artifact(1)
VERSIONS = tuple(read_manifest(data).version for data in (FIRST, SECOND))


@pytest.fixture
def waypost(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("WAYPOST_CONFIG", raising=False)
    for name, data in (("first", FIRST), ("second", SECOND)):
        (tmp_path / name).write_bytes(data)

    def run(*arguments: str):
        given = [str(tmp_path / a) if a in {"first", "second"} else a for a in arguments]
        return CliRunner().invoke(command, given)

    return run


def test_an_empty_store_says_what_to_do(waypost):
    result = waypost("list")
    assert result.exit_code == 0
    assert "waypost router import FILE" in result.output


def test_imports_activates_and_lists(waypost):
    assert f"waypost router activate {VERSIONS[0]}" in waypost("import", "first").output
    assert waypost("import", "second", "--activate").exit_code == 0
    lines = waypost("list").output.splitlines()
    assert sorted(line[:2] for line in lines) == ["  ", "* "]
    active = next(line for line in lines if line.startswith("*"))
    assert VERSIONS[1] in active
    assert "2 models  static-cheap-1  guarded" in active


@pytest.mark.parametrize(
    "arguments", [("activate", VERSIONS[0]), ("import", "first", "--activate")]
)
def test_a_router_that_there_are_doubts_about_serves_only_if_the_operator_says_so(
    waypost, tmp_path, monkeypatch, arguments
):
    config = tmp_path / "waypost.toml"
    config.write_text(
        f'data_dir = "{tmp_path / "data"}"\n[providers.host]\nbase_url = "http://127.0.0.1:9/v1"\n'
        '[models.medium]\nprovider = "host"\n'
    )
    monkeypatch.setenv("WAYPOST_CONFIG", str(config))
    waypost("import", "first")

    refused = waypost(*arguments)
    assert refused.exit_code == 2
    assert "doubt: it knows none of the models of these settings (medium)" in refused.stderr
    assert "*" not in waypost("list").output
    agreed = waypost(*arguments, "--yes")
    assert agreed.exit_code == 0
    assert "doubt: " in agreed.stderr
    assert "* " in waypost("list").output


def test_rolls_back(waypost):
    waypost("import", "first", "--activate")
    waypost("import", "second")
    waypost("activate", VERSIONS[1])
    assert f"active: {VERSIONS[0]} (2 models" in waypost("rollback").output
    result = waypost("rollback")
    assert result.exit_code == 1
    assert "no earlier version" in result.output


def test_shows_the_manifest(waypost):
    waypost("import", "first")
    shown = json.loads(waypost("show", VERSIONS[0]).output)
    assert shown["version"] == VERSIONS[0]
    assert shown["models"] == ["small", "large"]
    assert shown["provenance"] == {"train_queries": 30}
    assert shown["created_at"] == "2026-11-03T12:00:00+00:00"


def test_lists_what_cannot_be_used_with_the_reason(waypost, tmp_path):
    waypost("import", "first")
    (tmp_path / "data" / "routers" / f"{VERSIONS[0]}.safetensors").write_bytes(FIRST[:100])
    assert f"{VERSIONS[0]}  unusable: the file ends inside its header" in waypost("list").output


@pytest.mark.parametrize("name", ["show", "activate"])
@pytest.mark.parametrize("version", [VERSIONS[0], "../../etc/passwd"])
def test_a_version_that_is_not_there_is_an_error(waypost, name, version):
    result = waypost(name, version)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_does_not_import_what_is_no_artefact(waypost, tmp_path):
    (tmp_path / "first").write_bytes(b"hello")
    result = waypost("import", "first")
    assert (result.exit_code, "too short" in result.output) == (1, True)


def test_a_disk_that_cannot_be_written_is_an_error(waypost, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    result = waypost("import", "first")
    assert result.exit_code == 1
    assert "Not a directory" in result.output or "File exists" in result.output


def test_lists_and_shows_why_a_router_of_a_federation_serves_or_not(waypost, tmp_path):
    waypost("import", "first")
    made = Assessment("candidate", "it may lose 0.1", CREATED_AT, {"rows": 120.0})
    ArtifactStore(tmp_path / "data" / "routers").note(VERSIONS[0], made)
    assert "\n    candidate: it may lose 0.1\n" in waypost("list").output
    shown = json.loads(waypost("show", VERSIONS[0]).output)
    assert shown["assessment"]["figures"] == {"rows": 120.0}
    assert shown["registry"] == {}
