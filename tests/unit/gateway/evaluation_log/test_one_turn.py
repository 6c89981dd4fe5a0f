"""One turn by any of its ids, on SQLite and Postgres."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from budget.ledger.settlements import Lease, SettlementRecord
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.one_turn import find_turns, query_of
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from gateway.types import TurnRecord
from tests.fakes.schemas import with_schema
from tests.fakes.turns import START_UNIX_S, make_turn

DIGITS = "0123456789abcdef" * 2
REQUEST = f"req_{DIGITS}"


@pytest.fixture
def engine(database_url: str):
    engine = create_database_engine(database_url)
    with_schema(engine)
    yield engine
    engine.dispose()


def settled(request_id: str, charged_nusd: int, **changes) -> SettlementRecord:
    lease = Lease(request_id, "blue", "0123456789ab", "u1", None, " tnd ", START_UNIX_S)
    known: dict[str, Any] = {
        "model": "small",
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
        if isinstance(record, TurnRecord):
            log.record(record)
        elif isinstance(record, GradeRecord):
            log.record_grade(record)
        else:
            log.record_settlement(record)
    log.start()
    await log.aclose()


def turn(**changes) -> TurnRecord:
    return make_turn(1, request_id=REQUEST, team_id="blue", trace_id="7c" * 16, **changes)


@pytest.mark.parametrize(
    "an_id", [REQUEST, DIGITS, f"{REQUEST}-2", "dec_000001", "chatcmpl-000001", "7c" * 16]
)
async def test_a_turn_is_found_by_each_of_its_ids(engine, tmp_path, an_id):
    await fill(engine, tmp_path, turn(), make_turn(2, trace_id=None))

    assert [found["request_id"] for found in find_turns(engine, an_id)] == [REQUEST]


async def test_an_id_that_nothing_has_finds_nothing(engine, tmp_path):
    await fill(engine, tmp_path, turn())

    assert find_turns(engine, "req_none") == []


async def test_of_a_trace_all_turns_are_found_the_newest_first(engine, tmp_path):
    await fill(engine, tmp_path, *(make_turn(n, trace_id="aa" * 16) for n in range(3)))

    found = find_turns(engine, "aa" * 16)

    assert [one["turn_index"] for one in found] == [2, 1, 0]


async def test_a_turn_says_which_model_and_why(engine, tmp_path):
    await fill(engine, tmp_path, turn())

    (found,) = find_turns(engine, REQUEST)

    route = found["route"]
    assert (route["chosen_model"], route["route_reason"], route["propensity"]) == (
        "small",
        "router",
        0.9,
    )
    assert "the router expected most of it" in route["why"]
    assert [(one["model"], one["utility"], one["verdict"]) for one in route["candidates"]] == [
        ("small", 0.45, "ok"),
        ("large", -4.1, "ok"),
    ]
    assert route["data_rules"] == "europe@1a2b3c4d"
    assert found["times"] == {"gateway_s": 0.0005, "first_byte_s": 0.1, "latency_s": 0.4}
    assert found["outcome"]["attempts"] == 1
    assert found["usage"]["cached_tokens"] == 20
    assert found["turn_budget"]["allotted_tokens"] == 512


async def test_its_money_is_told_by_part(engine, tmp_path):
    await fill(
        engine,
        tmp_path,
        turn(attempts=2, cost_nusd=100, given_up_nusd=7),
        settled(REQUEST, 7, outcome="ProviderTimeout"),
        settled(f"{REQUEST}-1", 100, held_nusd=500, model="large"),
        settled("req_of_another", 5),
    )

    (found,) = find_turns(engine, REQUEST)

    money = found["money"]
    assert (money["charged_nusd"], money["last_call_nusd"], money["given_up_nusd"]) == (107, 100, 7)
    assert money["held_nusd"] == 900
    assert {(one["outcome"], one["charged_nusd"]) for one in money["reservations"]} == {
        ("ProviderTimeout", 7),
        ("answered", 100),
    }


async def test_its_grades_are_those_of_its_own_team(engine, tmp_path):
    given: dict[str, Any] = {
        "source": "feedback",
        "comment": None,
        "created_at_unix_s": START_UNIX_S,
    }
    await fill(
        engine,
        tmp_path,
        turn(),
        GradeRecord("g1", "dec_000001", "blue", "me", score=1.0, **given),
        GradeRecord("g2", "dec_000001", "red", "me", score=0.0, **given),
    )

    (found,) = find_turns(engine, REQUEST)

    assert [grade["score"] for grade in found["grades"]] == [1.0]


async def test_no_text_is_shown(engine, tmp_path):
    said = {"messages": ({"role": "user", "content": "secret words"},), "answer": "secret words"}
    await fill(engine, tmp_path, turn(query_text="secret words", **said))

    assert "secret words" not in str(find_turns(engine, REQUEST))


async def test_a_call_that_is_no_turn_is_found_in_the_journal(engine, tmp_path):
    await fill(engine, tmp_path, settled(REQUEST, 12, model="embedder"))

    (found,) = find_turns(engine, REQUEST)

    assert (found["team_id"], found["user_digest"]) == ("blue", "u1")
    assert found["money"]["charged_nusd"] == 12
    assert found["money"]["reservations"][0]["model"] == "embedder"


async def test_no_id_is_looked_for_in_the_whole_table(engine, tmp_path):
    await fill(engine, tmp_path, *(make_turn(n) for n in range(2)))
    literal = {"literal_binds": True}
    sql = str(query_of(DIGITS).compile(engine, compile_kwargs=literal))
    is_postgres = engine.dialect.name == "postgresql"
    with engine.begin() as connection:
        if is_postgres:  # which reads so small a table whole, if it may
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN" if is_postgres else "EXPLAIN QUERY PLAN"
        plan = str(connection.execute(text(f"{explain} {sql}")).all())

    assert "ix_turns_trace_id" in plan
    assert "Seq Scan" not in plan
    assert "SCAN turns" not in plan
