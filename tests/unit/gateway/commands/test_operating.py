"""`waypost database`, `teams`, `keys` and `log`, as an operator types them."""

import re
from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner
from sqlalchemy import select, text

from gateway.cli import cli
from gateway.commands import log as log_command
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeRecord
from gateway.settings.config import EvaluationLogSettings, GatewaySettings
from gateway.storage.database import create_database_engine
from migrations.tables import HEAD_REVISION, TURNS
from tests.fakes.patience import PATIENCE_S
from tests.fakes.schemas import with_schema
from tests.fakes.turns import START_UNIX_S, make_turn


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'waypost.db'}"


@pytest.fixture
def config(tmp_path: Path, url: str) -> Path:
    file = tmp_path / "waypost.toml"
    file.write_text(f'data_dir = "{tmp_path}"\n[database]\nurl = "{url}"\n')
    return file


@pytest.fixture
def waypost(config: Path):
    def run(*arguments: str, fails: bool = False) -> str:
        group, command, *rest = arguments
        result = CliRunner().invoke(cli, [group, command, "--config", str(config), *rest])
        assert (result.exit_code != 0) == fails, result.output
        return result.output

    return run


# Older than what is kept by default, whenever the test runs.
LONG_AGO_UNIX_S = START_UNIX_S - 100 * 86_400


@pytest.fixture
async def filled(url: str, tmp_path: Path) -> None:
    engine = create_database_engine(url)
    with_schema(engine)
    log = EvaluationLog(engine, EvaluationLogSettings(retention_days=None), tmp_path / "spool")
    for number in range(3):
        log.record(make_turn(number, started_at_unix_s=LONG_AGO_UNIX_S + number))
    log.record_grade(
        GradeRecord("g", "req_000001", "default", "me", "feedback", 1, None, LONG_AGO_UNIX_S)
    )
    log.start()
    await log.aclose(PATIENCE_S)
    engine.dispose()


def test_the_schema_is_upgraded_once(waypost):
    assert "no schema" in waypost("database", "current", fails=True)
    assert waypost("database", "upgrade") == f"upgraded to {HEAD_REVISION}\n"
    assert waypost("database", "upgrade") == f"already at {HEAD_REVISION}\n"
    assert waypost("database", "current") == f"{HEAD_REVISION}\n"


def test_a_database_that_cannot_be_opened_is_named_without_its_password(config, waypost):
    config.write_text(
        f'data_dir = "{config.parent}"\n[database]\nurl = "postgresql://u:hush@127.0.0.1:1/d"\n'
    )

    output = waypost("database", "upgrade", fails=True)

    assert "postgresql+psycopg://u:***@127.0.0.1:1/d" in output
    assert "hush" not in output


def test_a_team_opts_in_to_training_and_out_again(waypost):
    waypost("teams", "create", "blue", "--log-text")
    assert "trains a reasoner" in waypost("teams", "update", "blue", "--train-reasoner")
    assert "text logged, trains a reasoner" in waypost("teams", "list")
    assert "trains" not in waypost("teams", "update", "blue", "--no-train-reasoner")


def test_a_team_lets_answers_be_judged_and_takes_it_back(waypost):
    waypost("teams", "create", "blue")
    assert "text not logged, judged" in waypost("teams", "update", "blue", "--judge")
    assert "judged" in waypost("teams", "update", "blue", "--log-text")
    assert "judged" not in waypost("teams", "update", "blue", "--no-judge")


def test_teams_are_created_changed_and_listed(waypost):
    waypost("teams", "create", "blue")
    waypost("teams", "create", "green", "--log-text")
    assert "exists already" in waypost("teams", "create", "blue", fails=True)
    waypost("teams", "update", "blue", "--log-text")

    lines = waypost("teams", "list").splitlines()

    assert [line.split(maxsplit=1) for line in lines] == [
        ["blue", "text logged"],
        ["green", "text logged"],
    ]


def test_a_key_lives_from_creation_to_revocation(waypost):
    waypost("teams", "create", "blue")
    key = waypost("keys", "create", "--team", "blue", "--model", "a", "--expires-in", "90d").strip()
    assert re.fullmatch(r"wp-[0-9a-f]{12}-[\w-]{43}", key)
    key_id = key.split("-")[1]

    assert f"{key_id}  blue             active" in waypost("keys", "list")
    rotated = waypost("keys", "rotate", key_id, "--overlap", "1h").strip()
    assert rotated.startswith(f"wp-{key_id}-")
    assert rotated != key
    assert "active" in waypost(
        "keys", "update", key_id, "--all-models", "--profile", "economy", "--expires-in", "1d"
    )
    assert "active" in waypost("keys", "update", key_id, "--model", "b")
    assert "expired" in waypost("keys", "update", key_id, "--expires-in", "0s")
    assert "revoked" in waypost("keys", "revoke", key_id)
    assert waypost("keys", "list", "--team", "green").count("\n") == 1


def test_the_last_use_of_a_key_is_listed(waypost, url):
    waypost("teams", "create", "default")
    waypost("keys", "create")
    engine = create_database_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE keys SET last_used_at = '2026-11-01 12:30:00.000000'"))
    engine.dispose()

    assert "2026-11-01 12:30" in waypost("keys", "list")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["keys", "create", "--team", "nobody"], "create it first"),
        (["keys", "revoke", "nothing"], "no key 'nothing'"),
        (["keys", "create", "--expires-in", "soon"], "not a duration"),
        (["log", "export", "--out", "log.txt"], "must end in .parquet or .csv"),
        (["log", "export", "--out", "/nowhere/log.csv"], "cannot be written"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(waypost, arguments, message):
    assert message in waypost(*arguments, fails=True)


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_the_log_is_exported(waypost, filled, tmp_path, name):
    file = tmp_path / name

    assert waypost("log", "export", "--out", str(file)) == f"1 rows in {file}\n"
    whole = waypost("log", "export", "--out", str(file), "--all", "--since", "2025-01-01")
    assert whole == f"3 rows in {file}\n"
    assert file.stat().st_size > 0
    assert not list(tmp_path.glob("*.partial"))


def test_an_export_without_grades_says_where_grades_come_from(waypost, tmp_path):
    assert "/v1/feedback" in waypost("log", "export", "--out", str(tmp_path / "log.csv"))


def test_parquet_without_pyarrow_says_what_to_install(waypost, tmp_path, monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name="pyarrow")

    monkeypatch.setattr(log_command, "import_module", missing)

    output = waypost("log", "export", "--out", str(tmp_path / "log.parquet"), fails=True)

    assert "waypost[train]" in output


def test_old_rows_are_pruned(waypost, filled, url):
    assert "4 rows older than 30 days deleted" in waypost("log", "prune", "--older-than-days", "30")

    engine = create_database_engine(url)
    with engine.connect() as connection:
        assert connection.execute(select(TURNS.c.request_id)).all() == []
    engine.dispose()


def test_pruning_takes_its_age_from_the_settings(waypost, filled):
    assert "4 rows older than 90 days" in waypost("log", "prune")


def test_pruning_needs_an_age_where_rows_are_kept_for_ever(filled, tmp_path):
    settings = GatewaySettings(
        data_dir=tmp_path, evaluation_log=EvaluationLogSettings(retention_days=None)
    )

    prune = log_command.prune.callback
    assert prune is not None
    with pytest.raises(ClickException, match="--older-than-days"):
        prune(settings, None)


MODEL = """
[providers.host]
base_url = "http://127.0.0.1:9/v1"
[models.small]
provider = "host"
"""


def test_a_name_that_the_settings_do_not_have_is_kept_with_a_warning(waypost, config):
    waypost("database", "upgrade")
    waypost("teams", "create", "default")
    assert "warning" not in waypost(
        "keys", "create", "--model", "discovered", "--profile", "economy"
    )

    config.write_text(config.read_text() + MODEL)
    told = waypost("keys", "create", "--model", "smal", "--model", "auto", "--profile", "cheap")

    assert "warning: there is no model 'smal' yet; known: auto, " in told
    assert "warning: there is no profile 'cheap' yet; known: balanced, economy, " in told
    assert "'auto'" not in told
    key_id = told.splitlines()[-1].split("-")[1]
    assert "warning" in waypost("keys", "update", key_id, "--model", "larg")
    assert "warning" not in waypost("keys", "update", key_id, "--model", "small")
