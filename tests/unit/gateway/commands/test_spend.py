"""`waypost spend`, as an operator types it."""

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.budgets.definitions import scope_digest
from gateway.commands.spend import command
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.settings.config import EvaluationLogSettings
from tests.fakes.budgets import migrated
from tests.fakes.turns import make_turn

DAY_S = 86_400
ALICE = scope_digest("blue", "user", "alice")
MARCH_UNIX_S = 1_772_323_200.0  # 2026-03-01 00:00 UTC


@pytest.fixture
async def spend(tmp_path: Path):
    """Run the command over the log of two teams and two days."""
    engine = migrated(f"sqlite:///{tmp_path / 'waypost.db'}")
    rows = EvaluationLog(engine, EvaluationLogSettings(retention_days=None), tmp_path / "spool")
    for number, cost_nusd, changes in (
        (1, 1_000_000_001, {"team_id": "blue", "user_digest": ALICE}),
        (2, 20, {"team_id": "blue", "user_digest": None, "served_model": "large"}),
        (3, 3_000_000_000, {"team_id": "red", "metadata": {}}),
    ):
        begun_s = MARCH_UNIX_S + DAY_S * (number - 1)
        known = {"given_up_nusd": 0, "started_at_unix_s": begun_s, "cost_nusd": cost_nusd}
        rows.record(make_turn(number, **known, **changes))
    rows.start()
    await rows.aclose()
    engine.dispose()
    (tmp_path / "waypost.toml").write_text(f'data_dir = "{tmp_path}"\n')

    def run(*arguments: str, fails: bool = False) -> str:
        config = ["--config", str(tmp_path / "waypost.toml")]
        result = CliRunner().invoke(command, [*config, *arguments])
        assert (result.exit_code != 0) == fails, result.output
        return result.output

    return run


def test_teams_are_shown_by_default_those_that_spent_most_first(spend):
    assert spend() == (
        "team   requests  refused  prompt tokens  completion tokens          USD\n"
        "red           1        0            100                 50  3.000000000\n"
        "blue          2        0            200                100  1.000000021\n"
        "total         3        0            300                150  4.000000021\n"
    )


def test_days_are_shown_in_their_order(spend):
    days = [line.split()[0] for line in spend("--by", "day,team").splitlines()]

    assert days == ["day", "2026-03-01", "2026-03-02", "2026-03-03", "total"]


def test_a_program_gets_exact_sums_as_json(spend):
    told = json.loads(spend("--by", "team,model", "--team", "blue", "--json"))

    assert [(row["model"], row["cost_nusd"], row["cost_usd"]) for row in told["data"]] == [
        ("small", 1_000_000_001, "1.000000001"),
        ("large", 20, "0.000000020"),
    ]
    assert told["total"]["cost_usd"] == "1.000000021"


def test_a_spreadsheet_gets_csv(spend):
    rows = list(csv.DictReader(io.StringIO(spend("--by", "task", "--csv"))))

    assert [(row["task"], row["cost_usd"]) for row in rows] == [
        ("", "3.000000000"),
        ("gsm8k", "1.000000021"),
    ]
    assert rows[0]["cached_tokens"] == "20"


def test_a_user_is_asked_for_by_the_callers_name(spend):
    shown = spend("--team", "blue", "--user", "alice", "--by", "user")

    assert shown.splitlines()[1].split()[0] == ALICE
    assert "1.000000001" in shown


def test_a_range_of_days_can_be_chosen(spend):
    shown = spend("--since", "2026-03-02", "--until", "2026-03-03")

    assert [line.split()[0] for line in shown.splitlines()] == ["team", "blue", "total"]
    assert "0.000000020" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "colour"], "give names of team, key, user, model, task, day"),
        (["--by", "team,team"], "each once"),
        (["--user", "alice"], "give --team too"),
        (["--json", "--csv"], "one of --json and --csv"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(spend, arguments, message):
    assert message in spend(*arguments, fails=True)


def test_an_empty_log_adds_up_to_nothing(spend):
    assert spend("--team", "nobody").splitlines()[-1].split() == ["total", *"0000", "0.000000000"]
