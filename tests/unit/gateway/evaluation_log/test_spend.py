"""What was spent, on SQLite and Postgres."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from budget.ledger.settlements import Lease, SettlementRecord
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.spend import EVERY, SUMS, By, Spending, spend, total, usd
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from gateway.types import TurnRecord, Usage
from migrations.tables import TURNS
from tests.fakes.schemas import with_schema
from tests.fakes.turns import START_UNIX_S, make_turn

DAY_S = 86_400
MIDNIGHT_UNIX_S = START_UNIX_S // DAY_S * DAY_S


@pytest.fixture
def engine(database_url: str):
    engine = create_database_engine(database_url)
    with_schema(engine)
    yield engine
    engine.dispose()


def turn(number: int, cost_nusd: int, **changes) -> TurnRecord:
    known: dict[str, Any] = {
        "request_id": f"req_{number:032x}",
        "given_up_nusd": 0,
        "cost_nusd": cost_nusd,
    }
    return make_turn(number, **(known | changes))


def settled(request_id: str, charged_nusd: int, team_id: str = "default", **changes):
    lease = Lease(request_id, team_id, "0123456789ab", "u1", None, " tnd ", START_UNIX_S)
    known: dict[str, Any] = {
        "model": "embedder",
        "held_nusd": 900,
        "held_tokens": 90,
        "charged_tokens": 30,
        "charged_output_tokens": 10,
        "is_estimated": False,
        "outcome": "answered",
        "settled_at_unix_s": START_UNIX_S + 1,
    }
    return SettlementRecord(lease=lease, charged_nusd=charged_nusd, **(known | changes))


async def fill(engine: Engine, tmp_path: Path, *records) -> None:
    log = EvaluationLog(engine, EvaluationLogSettings(retention_days=None), tmp_path / "spool")
    for record in records:
        is_turn = isinstance(record, TurnRecord)
        (log.record if is_turn else log.record_settlement)(record)
    log.start()
    await log.aclose()


def costs(engine: Engine, by: By, **changes) -> dict[str, int]:
    rows = spend(engine, Spending(by=(by,), **changes))
    return {row[by]: row["cost_nusd"] for row in rows}


async def test_money_adds_up_by_whatever_is_asked_for(engine, tmp_path):
    await fill(
        engine,
        tmp_path,
        turn(1, 100, team_id="blue", key_id="k1", user_digest="u1", served_model="small"),
        turn(2, 20, team_id="blue", key_id="k2", user_digest=None, served_model="large"),
        turn(3, 3, team_id="red", key_id="k3", metadata={}, user_digest="u1"),
    )

    assert costs(engine, "team") == {"blue": 120, "red": 3}
    assert costs(engine, "key") == {"k1": 100, "k2": 20, "k3": 3}
    assert costs(engine, "user") == {"u1": 103, "": 20}
    assert costs(engine, "model") == {"small": 103, "large": 20}
    assert costs(engine, "task") == {"gsm8k": 120, "": 3}


async def test_sums_are_exact_beyond_what_a_float_holds(engine, tmp_path):
    await fill(engine, tmp_path, turn(1, 2**53), turn(2, 1), turn(3, 2**60))

    (row,) = spend(engine, Spending())

    assert row["cost_nusd"] == 2**53 + 1 + 2**60
    assert usd(row["cost_nusd"]) == "1161928703.861587969"


async def test_what_was_given_up_and_what_was_estimated_are_counted(engine, tmp_path):
    guessed = Usage(100, 50, is_estimated=True)
    await fill(engine, tmp_path, turn(1, 100, given_up_nusd=7), turn(2, 20, usage=guessed))

    (row,) = spend(engine, Spending())

    assert (row["cost_nusd"], row["estimated_nusd"]) == (127, 20)


async def test_tokens_and_requests_are_counted(engine, tmp_path):
    refused = turn(2, 0, usage=None, served_model=None, error="BudgetExhausted")
    await fill(engine, tmp_path, turn(1, 100), refused)

    (row,) = spend(engine, Spending())

    assert row == {
        "team": "default",
        "requests": 2,
        "refused": 1,
        "prompt_tokens": 100,
        "cached_tokens": 20,
        "cache_write_tokens": 5,
        "completion_tokens": 50,
        "estimated_nusd": 0,
        "cost_nusd": 100,
    }


async def test_days_are_those_of_utc(engine, tmp_path):
    await fill(
        engine,
        tmp_path,
        turn(1, 1, started_at_unix_s=MIDNIGHT_UNIX_S - 0.001),
        turn(2, 2, started_at_unix_s=MIDNIGHT_UNIX_S),
    )

    today = datetime.fromtimestamp(MIDNIGHT_UNIX_S, UTC)
    before = today - timedelta(days=1)
    assert costs(engine, "day") == {f"{before:%Y-%m-%d}": 1, f"{today:%Y-%m-%d}": 2}


async def test_a_range_of_time_has_its_beginning_and_not_its_end(engine, tmp_path):
    turns = (turn(n, 10**n, started_at_unix_s=START_UNIX_S + n) for n in range(4))
    await fill(engine, tmp_path, *turns)
    since, until = (datetime.fromtimestamp(START_UNIX_S + n, UTC) for n in (1, 3))

    assert costs(engine, "team", since=since, until=until) == {"default": 110}


async def test_only_some_can_be_asked_for(engine, tmp_path):
    await fill(engine, tmp_path, turn(1, 1, team_id="blue"), turn(2, 2), turn(3, 4, key_id="k"))

    assert costs(engine, "key", where={"team": "default"}) == {"0123456789ab": 2, "k": 4}


async def test_a_turn_counts_once_however_often_it_is_in_the_journal(engine, tmp_path):
    name = f"req_{1:032x}"
    journaled = (settled(name, 7), settled(f"{name}-1", 100))
    await fill(engine, tmp_path, turn(1, 100, given_up_nusd=7), *journaled)

    (row,) = spend(engine, Spending())

    assert (row["cost_nusd"], row["requests"]) == (107, 1)


async def test_what_is_no_turn_counts_by_the_journal(engine, tmp_path):
    name = f"req_{2:032x}"
    await fill(engine, tmp_path, turn(1, 100), settled(name, 7), settled(f"{name}-1", 5))

    rows = spend(engine, Spending(by=("model", "user")))

    assert [(row["model"], row["user"], row["cost_nusd"], row["requests"]) for row in rows] == [
        ("embedder", "u1", 12, 1),
        ("small", "d1" * 16, 100, 1),
    ]
    assert (rows[0]["prompt_tokens"], rows[0]["completion_tokens"]) == (40, 20)


async def test_resets_and_folded_rows_are_no_money(engine, tmp_path):
    await fill(
        engine,
        tmp_path,
        settled("reset_1", -50, outcome="reset", charged_requests=0),
        settled("opening_1", 50, outcome="opening"),
    )

    assert spend(engine, Spending()) == []


async def test_a_second_answer_is_paid_by_the_gateways_own_team(engine, tmp_path):
    shadow = turn(1, 9, route_reason="shadow", key_id="@shadow", team_id="blue")
    await fill(engine, tmp_path, shadow, settled(shadow.request_id, 9, team_id="@judge"))

    assert costs(engine, "team") == {"@judge": 9}


async def test_pages_follow_each_other_without_a_gap(engine, tmp_path):
    teams = ("blue", "green", "red")
    models = ("small", "large", None)
    turns = [
        turn(3 * n + m, 1, team_id=team, served_model=model)
        for n, team in enumerate(teams)
        for m, model in enumerate(models)
    ]
    await fill(engine, tmp_path, *turns)
    whole = spend(engine, Spending(by=("team", "model")))

    paged, after = [], None
    while page := spend(engine, Spending(by=("team", "model")), after=after, limit=2):
        paged += page
        after = [page[-1]["team"], page[-1]["model"]]

    assert len(whole) == 9
    assert paged == whole


async def test_each_way_of_adding_up_comes_to_the_same(engine, tmp_path):
    turns = (
        turn(n, 10**n, team_id=f"t{n % 3}", served_model=f"m{n % 4}", user_digest=f"u{n % 5}")
        for n in range(12)
    )
    await fill(engine, tmp_path, *turns)
    with engine.connect() as connection:
        expected = sum(connection.scalars(select(TURNS.c.cost_nusd)))

    sums = [total(spend(engine, Spending(by=(by,)))) for by in EVERY]
    sums.append(total(spend(engine, Spending(by=EVERY))))

    assert {each["cost_nusd"] for each in sums} == {expected}
    assert all(each == sums[0] for each in sums)
    assert sums[0].keys() == set(SUMS)


@given(st.integers(0, 2**62))
def test_usd_are_written_to_the_last_digit(nusd):
    assert int(usd(nusd).replace(".", "")) == nusd
