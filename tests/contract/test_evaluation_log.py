"""The evaluation log on SQLite and on Postgres: the same promises."""

import sqlite3
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, func, select, text

from gateway.access.keys import KeyStore
from gateway.candidate_records import CandidateRecord
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.row_layout import to_row
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from gateway.storage.rows import SLICE_ROWS, from_payload, insert_rows, to_payload
from gateway.types import TurnRecord, Usage
from migrations.tables import GRADES, KEYS, TURNS, objects_of
from tests.fakes.schemas import closing, with_schema
from tests.fakes.turns import START_UNIX_S, make_turn, until

SETTINGS = EvaluationLogSettings(retention_days=None, flush_interval_s=0.02)


@pytest.fixture
def engine(database_url: str):
    with closing(with_schema(create_database_engine(database_url))) as engine:
        yield engine


@pytest.fixture
def log(engine: Engine, tmp_path: Path) -> EvaluationLog:
    return EvaluationLog(engine, SETTINGS, tmp_path / "spool")


def stored(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(TURNS.c.request_id).order_by(TURNS.c.request_id)))


async def write(log: EvaluationLog, *records) -> None:
    for record in records:
        log.record_grade(record) if isinstance(record, GradeRecord) else log.record(record)
    log.start()
    await log.aclose()


async def test_a_turn_is_stored_as_it_was_recorded(engine, log):
    turn = make_turn(7, query_text="What is 6 x 7?")

    await write(log, turn)

    with engine.connect() as connection:
        row = connection.execute(select(TURNS)).mappings().one()
    assert row["request_id"] == "req_000007"
    assert row["answer_id"] == "chatcmpl-000007"
    assert row["started_at"] == datetime.fromtimestamp(START_UNIX_S + 7, UTC)
    assert row["query_text"] == "What is 6 x 7?"
    assert np.frombuffer(row["query_embedding"], "<f4").tolist() == [0.5, -1.0, 7.0]
    assert [CandidateRecord(**c) for c in row["candidates"]] == list(turn.candidates)
    assert (row["prompt_tokens"], row["cached_tokens"], row["reasoning_tokens"]) == (100, 20, 7)
    assert row["cost_nusd"] == 12_345_678_901
    assert row["metadata"] == {"task": "gsm8k"}
    assert row["is_estimated"] is False
    allotment = ("budget_tokens", "proposed_tokens", "allotted_tokens", "policy_propensity")
    assert [row[name] for name in allotment] == [8000, 1024, 512, 0.25]
    assert row["policy_version"] == "p-1"


async def test_a_turn_that_failed_before_anything_was_known_is_stored(engine, log):
    await write(
        log,
        make_turn(
            answer_id=None,
            chosen_model=None,
            served_model=None,
            query_embedding=None,
            encoder_id=None,
            candidates=(),
            usage=None,
            cost_nusd=None,
            first_byte_s=None,
            error="provider_timeout",
            metadata={},
        ),
    )

    with engine.connect() as connection:
        row = connection.execute(select(TURNS)).mappings().one()
    assert (row["prompt_tokens"], row["is_estimated"], row["query_embedding"]) == (None, None, None)
    assert (row["candidates"], row["error"]) == ([], "provider_timeout")


async def test_a_turn_recorded_twice_is_stored_once(engine, log):
    await write(log, make_turn(1), make_turn(2), replace(make_turn(1), attempts=9))

    assert stored(engine) == ["req_000001", "req_000002"]
    with engine.connect() as connection:
        assert set(connection.scalars(select(TURNS.c.attempts))) == {1}


async def test_a_turn_recorded_twice_among_many_is_stored_once(engine, log):
    turns = [make_turn(n) for n in range(SLICE_ROWS)]

    await write(log, turns[0], *turns)

    assert stored(engine) == [turn.request_id for turn in turns]


async def test_many_turns_are_written_in_several_batches(engine, tmp_path):
    settings = SETTINGS.model_copy(update={"batch_rows": 60})
    log = EvaluationLog(engine, settings, tmp_path / "spool")

    await write(log, *(make_turn(n) for n in range(250)))

    assert len(stored(engine)) == 250
    assert (log.counters.recorded, log.counters.written, log.counters.dropped) == (250, 250, 0)
    assert log.queue_depth == 0


async def test_a_full_batch_is_written_without_waiting_for_the_interval(engine, tmp_path):
    settings = EvaluationLogSettings(batch_rows=5, flush_interval_s=3600, retention_days=None)
    log = EvaluationLog(engine, settings, tmp_path / "spool")
    log.start()

    for number in range(5):
        log.record(make_turn(number))

    await until(lambda: log.counters.written == 5)
    await log.aclose()


@pytest.mark.parametrize(
    "poison",
    [
        {"turn_index": 2**70},
        {"attempts": None},
        {"latency_s": "slow"},
        {"metadata": {"object": object()}},
        {"query_embedding": "not numbers"},
    ],
    ids=lambda poison: next(iter(poison)),
)
async def test_one_bad_row_does_not_keep_the_others_out(engine, log, poison):
    turns = [make_turn(n) for n in range(SLICE_ROWS + 9)]
    turns[4] = replace(turns[4], **poison)

    await write(log, *turns)

    rejected = log.counters.dropped_rows
    assert len(stored(engine)) == len(turns) - rejected
    assert log.counters.spooled == 0
    assert set(stored(engine)) >= {t.request_id for n, t in enumerate(turns) if n != 4}


async def test_text_that_a_database_cannot_hold_is_mended(engine, log):
    await write(
        log,
        make_turn(
            query_text="nul \x00, surrogate \ud800, é",
            conversation_id="c" * 100_000,
            metadata={"task": "a\x00b"},
        ),
    )

    with engine.connect() as connection:
        row = connection.execute(select(TURNS)).mappings().one()
    assert row["query_text"] == "nul �, surrogate ?, é"
    assert len(row["conversation_id"]) == 512
    assert row["metadata"] == {"task": "a�b"}


async def test_a_grade_may_be_written_before_its_turn(engine, log):
    grade = GradeRecord("g1", "req_000001", "default", "me", "feedback", 0.75, "fine", 1.76e9)

    await write(log, grade, grade, make_turn(1))

    with engine.connect() as connection:
        row = connection.execute(select(GRADES)).mappings().one()
    assert (row["answer_id"], row["score"], row["comment"]) == ("req_000001", 0.75, "fine")
    assert (row["weight"], row["version"]) == (1.0, None)


async def test_a_grade_keeps_its_weight_and_the_version_of_its_grader(engine, log):
    grade = GradeRecord(
        "g1", "req_000001", "default", "loop", "check", 0.0, None, 1.76e9, weight=0.9, version="1"
    )

    await write(log, grade)

    with engine.connect() as connection:
        row = connection.execute(select(GRADES)).mappings().one()
    assert (row["weight"], row["version"]) == (0.9, "1")


async def test_the_last_use_of_a_key_is_noted_once_a_minute(engine, tmp_path):
    store = KeyStore(engine)
    store.create_team("default")
    key = store.create_key("default", "k").info
    now = 0.0
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool", monotonic=lambda: now)
    log.start()
    noted = []
    for number, moment in enumerate([100.0, 130.0, 190.0]):
        now = moment
        log.record(make_turn(number, key_id=key.id))
        await until(lambda written=number + 1: log.counters.written == written)
        with engine.connect() as connection:
            noted.append(connection.scalar(select(KEYS.c.last_used_at)).timestamp() - START_UNIX_S)
    await log.aclose()

    assert noted == [0, 0, 2]


async def test_old_rows_are_pruned_in_chunks_while_the_log_runs(engine, tmp_path):
    old = datetime.now(UTC) - timedelta(days=40)
    turns = [
        make_turn(n, started_at_unix_s=(old + timedelta(days=39 * (n == 0))).timestamp())
        for n in range(1200)
    ]
    grade = GradeRecord("g", "req_000001", "default", "me", "feedback", 1, None, old.timestamp())
    await write(EvaluationLog(engine, SETTINGS, tmp_path / "spool"), grade, *turns)
    settings = SETTINGS.model_copy(update={"retention_days": 30})
    log = EvaluationLog(engine, settings, tmp_path / "spool")

    log.start()
    await until(lambda: log.counters.pruned == 1200)
    await log.aclose()

    assert stored(engine) == ["req_000000"]
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(GRADES)) == 0


async def test_rows_wait_in_the_spool_for_a_missing_schema(engine, tmp_path):
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE turns RENAME TO hidden"))
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.start()
    log.record(make_turn(1))
    await until(lambda: log.counters.spooled == 1)
    assert log.is_database_down
    assert log.spool_bytes > 0

    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO turns"))
    await until(lambda: log.counters.replayed == 1)
    await log.aclose()

    assert stored(engine) == ["req_000001"]
    assert log.spool_bytes == 0
    assert not log.is_database_down


def test_a_row_survives_the_spool_unchanged():
    turn = make_turn(3)
    row = to_row(turn)
    grade = to_row(GradeRecord("g", "a", "t", "me", "verifier", 1.0, None, 1.76e9))

    assert from_payload(to_payload(grade)) == grade
    back = from_payload(to_payload(row))
    del row.columns["candidates"]
    candidates = back.columns.pop("candidates")
    assert [CandidateRecord(**each) for each in objects_of(candidates)] == list(turn.candidates)
    assert back == row


def test_a_grade_that_an_older_version_spooled_has_the_whole_weight(engine):
    older = to_row(GradeRecord("g", "a", "t", "me", "feedback", 1.0, None, 1.76e9))
    del older.columns["weight"], older.columns["version"]

    with engine.begin() as connection:
        insert_rows(connection, [from_payload(to_payload(older))])
        row = connection.execute(select(GRADES)).mappings().one()

    assert (row["weight"], row["version"]) == (1.0, None)


def test_rows_that_another_version_spooled_are_inserted_beside_ours(engine):
    older, ours = to_row(make_turn(1)), to_row(make_turn(2))
    del older.columns["messages"], older.columns["answer"]

    with engine.begin() as connection:
        insert_rows(connection, [older, ours, to_row(make_turn(3))])

    assert stored(engine) == ["req_000001", "req_000002", "req_000003"]


def test_a_column_that_only_some_rows_of_a_batch_fill_is_stored_for_each(engine):
    turns = make_turn(1, answer="It is 42."), make_turn(2), make_turn(3, error="Gone")

    with engine.begin() as connection:
        insert_rows(connection, [to_row(turn) for turn in turns])
        stored_now = select(TURNS.c.answer, TURNS.c.error).order_by(TURNS.c.request_id)
        found = [tuple(row) for row in connection.execute(stored_now)]

    assert found == [("It is 42.", None), (None, None), (None, "Gone")]


def test_sqlite_runs_in_wal_mode_with_foreign_keys(tmp_path):
    engine = create_database_engine(f"sqlite:///{tmp_path / 'w.db'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000
    engine.dispose()
    assert sqlite3.threadsafety >= 1


def test_every_column_of_a_turn_is_filled_in_from_a_field():
    known = {field.name for field in (*fields(TurnRecord), *fields(Usage))} - {"usage", "doubt"}
    known = known - {"started_at_unix_s"} | {"started_at"}

    assert set(TURNS.c.keys()) == known
    assert to_row(make_turn()).columns.keys() == known


@pytest.mark.parametrize("changes", [{}, {"usage": None, "query_embedding": None}])
def test_a_turn_is_stored_whole_from_memory_and_from_the_spool(engine, changes):
    whole = {"query_text": "q\x00\ud800", "error": "e", "answer": "It is 42.", "data_rules": "eu"}
    turn = make_turn(1, messages=({"role": "user", "content": "\x00é"},), **whole | changes)
    straight, spooled = to_row(turn), to_row(replace(turn, request_id="req_2"))

    with engine.begin() as connection:
        insert_rows(connection, [straight, from_payload(to_payload(spooled))])
        first, second = map(dict, connection.execute(select(TURNS)).mappings())

    assert {first.pop("request_id"), second.pop("request_id")} == {"req_000001", "req_2"}
    assert first == second
    assert {name for name, value in first.items() if value is None} == (
        set()
        if not changes
        else {field.name for field in fields(Usage)} - {"doubt"} | {"query_embedding"}
    )
