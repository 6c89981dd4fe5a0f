"""`waypost log show`, as an operator types it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.commands.log import command
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.settings.config import EvaluationLogSettings
from tests.fakes.budgets import migrated
from tests.fakes.turns import make_turn


@pytest.fixture
async def log(tmp_path: Path):
    """Show what a log of one turn, one refused one and one fallback holds."""
    engine = migrated(f"sqlite:///{tmp_path / 'waypost.db'}")
    rows = EvaluationLog(engine, EvaluationLogSettings(), tmp_path / "spool")
    rows.record(make_turn(1, cost_nusd=1_234, given_up_nusd=0))
    rows.record(make_turn(2, served_model="large", cost_nusd=0, given_up_nusd=5))
    rows.record(
        make_turn(
            3,
            route_reason="refused",
            error="BudgetExhausted",
            usage=None,
            answer_id=None,
            trace_id=None,
            conversation_id=None,
            user_digest=None,
            chosen_model=None,
            served_model=None,
            router_version=None,
            policy_version=None,
            data_rules=None,
            first_byte_s=None,
            candidates=(),
            metadata={},
        )
    )
    rows.start()
    await rows.aclose()
    engine.dispose()
    (tmp_path / "waypost.toml").write_text(f'data_dir = "{tmp_path}"\n')

    def show(*arguments: str, fails: bool = False) -> str:
        config = ["show", "--config", str(tmp_path / "waypost.toml")]
        result = CliRunner().invoke(command, [*config, *arguments])
        assert (result.exit_code != 0) == fails, result.output
        return result.output

    return show


def test_a_turn_is_told_line_by_line(log):
    shown = log("chatcmpl-000001")

    assert "request     req_000001\n" in shown
    assert "chosen      small: the router expected most of it" in shown
    assert "served by   small at openai\n" in shown
    assert "router      r-1, willing to pay 0.02 USD, propensity 0.9\n" in shown
    assert "data rules  europe@1a2b3c4d\n" in shown
    assert "outcome     answered (stop), 1 attempts\n" in shown
    assert "times       gateway 0.0005 s, first byte 0.1000 s, whole 0.4000 s\n" in shown
    assert "100 prompt (20 from the cache, 5 written to it), 50 completion\n" in shown
    assert "charged     0.000001234 USD\n" in shown
    columns = [line.split() for line in shown.splitlines() if "large" in line]
    assert columns == [["large", "0.9", "0.1", "-4.1", "0.1", "ok"]]


def test_a_fallback_and_what_was_given_up_are_named(log):
    shown = log("req_000002")

    assert "served by   large at openai, a fallback\n" in shown
    assert "0.000000005 USD, of which 0.000000005 USD for calls that were given up" in shown


def test_a_refused_turn_says_by_what(log):
    shown = log("req_000003")

    assert "chosen      none: the request was refused" in shown
    assert "outcome     BudgetExhausted, 1 attempts\n" in shown
    assert "served by" not in shown


def test_a_program_gets_the_same_as_json(log):
    (turn,) = json.loads(log("req_000001", "--json"))

    assert turn["money"]["charged_nusd"] == 1_234
    assert turn["trace_id"] == "7c" * 16


def test_of_a_trace_every_turn_is_shown(log):
    assert log("7c" * 16).count("request     ") == 2


def test_an_unknown_id_is_an_error_that_says_when_rows_come(log):
    assert "rows are written within" in log("req_none", fails=True)
