"""`waypost database`, `teams`, `keys` and `log`, as an operator types them."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner
from sqlalchemy import select, text

from gateway.cli import cli
from gateway.commands import log as log_command
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.row_layout import to_row
from gateway.settings.config import EvaluationLogSettings, GatewaySettings
from gateway.storage.database import create_database_engine
from gateway.storage.lease import Lease
from gateway.storage.rows import insert_rows
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
        return result.output if fails else result.stdout

    return run


@pytest.fixture
def warned(config: Path):
    def run(*arguments: str) -> str:
        group, command, *rest = arguments
        return CliRunner().invoke(cli, [group, command, "--config", str(config), *rest]).stderr

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


def test_a_database_is_copied_into_an_empty_one(filled, waypost, tmp_path):
    to = f"sqlite:///{tmp_path / 'copy.db'}"

    assert "would copy 3 rows of turns" in waypost("database", "copy", "--to", to, "--dry-run")
    assert not (tmp_path / "copy.db").exists()
    printed = waypost("database", "copy", "--to", to)
    assert "turns: 3 rows" in printed
    assert "set `database.url` to the new database" in printed
    assert "the target is not empty" in waypost("database", "copy", "--to", to, fails=True)

    other = f"sqlite:///{tmp_path / 'other.db'}"
    copied = json.loads(waypost("database", "copy", "--to", other, "--json"))
    assert (copied["rows"]["turns"], copied["rows"]["grades"]) == (3, 1)


def test_a_database_that_a_gateway_uses_is_copied_only_on_request(filled, url, waypost, tmp_path):
    engine = create_database_engine(url)
    Lease(engine, "budgets", "elsewhere/7/2026-12-01T10:00:00.0Z").take()
    engine.dispose()
    command = ("database", "copy", "--to", f"sqlite:///{tmp_path / 'copy.db'}")

    assert "in use by process 7 on host elsewhere" in waypost(*command, fails=True)
    assert not (tmp_path / "copy.db").exists()
    assert "turns: 3 rows" in waypost(*command, "--yes")


def test_a_target_that_cannot_be_reached_is_an_error_in_words(filled, waypost):
    to = "postgresql://u:hush@127.0.0.1:1/d"
    output = waypost("database", "copy", "--to", to, fails=True)

    assert "the database cannot be copied" in output
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
    assert "revoked" in waypost("keys", "revoke", key_id, "--yes")
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
        (["log", "export", "--out", "/dev/null/log.csv"], "cannot be written"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(waypost, arguments, message):
    assert message in waypost(*arguments, fails=True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["teams", "list"], 0),
        (["keys", "revoke", "nothing", "--yes"], 1),
        (["database", "current"], 1),
        (["keys", "list", "--unknown"], 2),
        (["log", "prune"], 2),
        (["teams", "list", "--config", "missing.toml"], 2),
    ],
)
def test_the_exit_code_says_whether_it_was_refused_or_wrongly_asked(config, arguments, code):
    given = arguments if "--config" in arguments else [*arguments, "--config", str(config)]
    command = [sys.executable, "-m", "gateway", *given]

    assert subprocess.run(command, check=False, capture_output=True).returncode == code


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
    assert "4 rows older than 30 days deleted" in waypost(
        "log", "prune", "--older-than-days", "30", "--yes"
    )

    engine = create_database_engine(url)
    with engine.connect() as connection:
        assert connection.execute(select(TURNS.c.request_id)).all() == []
    engine.dispose()


@pytest.mark.parametrize("flag", ["--dry-run", None])
def test_nothing_is_pruned_without_a_word_from_the_operator(waypost, filled, flag):
    said = waypost("log", "prune", *([flag] if flag else []), fails=flag is None)

    assert "delete 3 turns and 1 grades from before " in said
    assert "4 rows" in waypost("log", "prune", "--yes")


def test_taking_back_a_choice_asks_where_it_erases_what_was_kept(waypost, url, tmp_path):
    waypost("teams", "create", "default", "--train-reasoner")
    assert "nothing" in waypost("teams", "update", "default", "--no-train-reasoner", "--dry-run")
    engine = create_database_engine(url)
    with engine.begin() as connection:
        exchange = {"messages": [{"role": "user", "content": "?"}], "answer": "!"}
        insert_rows(connection, [to_row(make_turn(1, **exchange))])
    engine.dispose()

    refused = waypost("teams", "update", "default", "--no-train-reasoner", fails=True)
    assert "erase 1 exchanges of the team default" in refused
    assert "trains" in waypost("teams", "list")
    assert "trains" not in waypost("teams", "update", "default", "--no-train-reasoner", "--yes")


def test_programs_read_json_where_people_read_lines(waypost):
    waypost("teams", "create", "blue")
    key_id = waypost("keys", "create", "--team", "blue", "--model", "a").split("-")[1]
    waypost("budgets", "create", "--team", "blue", "--usd", "2")

    (team,) = json.loads(waypost("teams", "list", "--json"))
    (key,) = json.loads(waypost("keys", "list", "--json"))
    (budget,) = json.loads(waypost("budgets", "list", "--json"))

    assert (team["id"], team["logs_text"]) == ("blue", False)
    assert (key["id"], key["state"], key["allowed_models"]) == (key_id, "active", ["a"])
    assert json.loads(waypost("keys", "show", key_id, "--json")) == key
    assert "secret" not in json.dumps(key)
    assert "allowed_models        a\n" in waypost("keys", "show", key_id)
    assert (budget["cap_usd"], budget["team_id"]) == (2, "blue")
    assert json.loads(waypost("budgets", "show", budget["id"], "--json")) == budget
    assert json.loads(waypost("router", "list", "--json")) == []


def test_a_key_is_rotated_at_once_or_revoked_only_if_the_operator_says_so(waypost):
    waypost("teams", "create", "default")
    key_id = waypost("keys", "create", "--name", "ci").split("-")[1]
    for command in ("rotate", "revoke"):
        assert "--yes" in waypost("keys", command, key_id, fails=True)
        said = waypost("keys", command, key_id, "--dry-run")
        assert f"{key_id} 'ci' of the team default, active, last used: never" in said
    assert "active" in waypost("keys", "list")
    assert waypost("keys", "rotate", key_id, "--yes").startswith(f"wp-{key_id}-")


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_on_a_terminal_the_operator_is_asked(waypost, config, answer):
    waypost("teams", "create", "default")
    key_id = waypost("keys", "create").split("-")[1]
    command = [sys.executable, "-m", "gateway", "keys", "revoke", key_id, "--config", str(config)]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, command)
    os.write(terminal, answer.encode())
    said = b""
    with suppress(OSError):  # how a terminal says that nobody writes to it any more
        while read := os.read(terminal, 4096):
            said += read
    os.waitpid(child, 0)

    assert "Do it?" in said.decode()
    assert ("revoked" in waypost("keys", "list")) == (answer == "y\n")


def test_what_changes_names_the_database_and_what_looks_does_not(warned, config, url):
    for change in (("teams", "create", "default"), ("keys", "create"), ("database", "upgrade")):
        assert f"database: {url}\n" in warned(*change)
    for look in (("teams", "list"), ("keys", "list"), ("database", "current")):
        assert warned(*look) == ""


def test_the_default_database_is_named_as_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("WAYPOST_CONFIG", raising=False)

    said = CliRunner().invoke(cli, ["teams", "create", "blue"]).stderr

    assert f"{tmp_path}/waypost.db (no --config and no WAYPOST_CONFIG: the default)" in said


def test_pruning_takes_its_age_from_the_settings(waypost, filled):
    assert "4 rows older than 90 days" in waypost("log", "prune", "--yes")


def test_pruning_needs_an_age_where_rows_are_kept_for_ever(filled, tmp_path):
    settings = GatewaySettings(
        data_dir=tmp_path, evaluation_log=EvaluationLogSettings(retention_days=None)
    )

    prune = log_command.prune.callback
    assert prune is not None
    with pytest.raises(ClickException, match="--older-than-days"):
        prune(settings, None, yes=True, dry_run=False)


MODEL = """
[providers.host]
base_url = "http://127.0.0.1:9/v1"
[models.small]
provider = "host"
"""


def test_a_name_that_the_settings_do_not_have_is_kept_with_a_warning(waypost, warned, config):
    waypost("database", "upgrade")
    waypost("teams", "create", "default")
    assert "warning" not in warned(
        "keys", "create", "--model", "discovered", "--profile", "economy"
    )

    config.write_text(config.read_text() + MODEL)
    told = warned("keys", "create", "--model", "smal", "--model", "auto", "--profile", "cheap")

    assert "warning: there is no model 'smal' yet; known: auto, " in told
    assert "warning: there is no profile 'cheap' yet; known: balanced, economy, " in told
    assert "'auto'" not in told
    key_id = waypost("keys", "create").split("-")[1]
    assert "warning" in warned("keys", "update", key_id, "--model", "larg")
    assert "warning" not in warned("keys", "update", key_id, "--model", "small")
