import logging
import threading
from dataclasses import replace

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from budget.ledger.settlements import settlement_from_charge
from budget.ledger.types import UnjournaledCharge
from gateway.evaluation_log import evaluation_log
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.row_layout import to_row
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.rows import insert_rows, to_payload
from gateway.storage.spool import Spool
from migrations.tables import TURNS
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import make_turn, until

SETTINGS = EvaluationLogSettings(flush_interval_s=0.01, retention_days=None)
OUTAGE = OperationalError("INSERT", {}, Exception("down"))


class Switch:
    """Makes writing fail while it is off."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_on = True
        self._insert = insert_rows
        monkeypatch.setattr(evaluation_log, "insert_rows", self.insert)

    def insert(self, connection, rows) -> None:
        if not self.is_on:
            raise OUTAGE
        self._insert(connection, rows)


@pytest.fixture
def switch(monkeypatch) -> Switch:
    return Switch(monkeypatch)


def stored(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(TURNS.c.request_id).order_by(TURNS.c.request_id)))


async def test_rows_beyond_the_queue_are_dropped_and_counted(engine, tmp_path, caplog):
    log = EvaluationLog(engine, SETTINGS.model_copy(update={"queue_rows": 3}), tmp_path / "spool")
    for number in range(5):
        log.record(make_turn(number))

    assert (log.queue_depth, log.counters.recorded, log.counters.dropped) == (3, 3, 2)
    log.start()
    await log.aclose()
    assert len(stored(engine)) == 3
    assert "2 rows dropped" in caplog.text


async def test_closing_a_log_that_never_started_does_nothing(engine, tmp_path):
    await EvaluationLog(engine, SETTINGS, tmp_path / "spool").aclose()


async def test_recent_answers_know_their_team(engine, tmp_path):
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.record(make_turn(1, team_id="blue"))

    for name in ("req_000001", "dec_000001", "chatcmpl-000001"):
        found = log.recent.find(name)
        assert found is not None
        assert found.team_id == "blue"
    assert log.recent.find("req_000002") is None


async def test_rows_go_to_the_spool_while_the_database_is_down_and_back(engine, tmp_path, switch):
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    switch.is_on = False
    log.start()
    for number in range(4):
        log.record(make_turn(number))
        await until(lambda spooled=number + 1: log.counters.spooled == spooled)
    assert log.is_database_down
    assert log.counters.outages == 1

    switch.is_on = True
    await until(lambda: log.counters.replayed == 4)
    log.record(make_turn(9))
    await log.aclose()

    assert len(stored(engine)) == 5
    assert log.counters.written == 5
    assert log.counters.dropped == 0


@pytest.mark.parametrize("is_up", [True, False])
async def test_a_settlement_is_acknowledged_once_it_is_written_or_spooled(
    engine, tmp_path, switch, is_up
):
    switch.is_on = is_up
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    charges = [UnjournaledCharge(f"req_{n}", "blue", n, n, is_expired=False) for n in range(2)]
    for charge in charges:
        log.record_settlement(settlement_from_charge(charge, 1.0))
    log.record_settlement(replace(settlement_from_charge(charges[0], 1.0), acknowledges=None))
    assert log.take_durable() == []

    log.start()
    await log.aclose()

    assert log.take_durable() == charges
    assert log.take_durable() == []


async def test_closing_during_an_outage_leaves_the_rows_for_the_next_process(
    engine, tmp_path, switch
):
    switch.is_on = False
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.start()
    log.record(make_turn(1))
    await log.aclose()
    assert stored(engine) == []

    switch.is_on = True
    following = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    following.start()
    await until(lambda: following.counters.replayed == 1)
    await following.aclose()

    assert stored(engine) == ["req_000001"]


async def test_rows_wait_in_memory_when_the_spool_is_full_too(engine, tmp_path, switch):
    settings = SETTINGS.model_copy(update={"spool_max_bytes": 1})
    log = EvaluationLog(engine, settings, tmp_path / "spool")
    switch.is_on = False
    log.start()
    log.record(make_turn(1))
    await until(lambda: log.is_database_down)
    log.record(make_turn(2))

    switch.is_on = True
    await until(lambda: log.counters.written == 2)
    await log.aclose()

    assert log.counters.spooled == log.counters.dropped == 0


async def test_rows_that_fit_nowhere_at_the_end_are_counted(engine, tmp_path, switch):
    settings = SETTINGS.model_copy(update={"spool_max_bytes": 1, "batch_rows": 2})
    log = EvaluationLog(engine, settings, tmp_path / "spool")
    switch.is_on = False
    for number in range(5):
        log.record(make_turn(number))
    log.start()
    await log.aclose()

    assert log.counters.dropped_at_close == 5


async def test_a_writer_that_hangs_leaves_its_rows_in_the_spool(engine, tmp_path, monkeypatch):
    entered, released = threading.Event(), threading.Event()

    def hang(connection, rows) -> None:
        entered.set()
        released.wait(PATIENCE_S)
        raise OUTAGE

    monkeypatch.setattr(evaluation_log, "insert_rows", hang)
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.start()
    log.record(make_turn(1))
    await until(entered.is_set)
    log.record(make_turn(2))
    await log.aclose(grace_s=0.01)
    assert log.counters.spooled == 2

    monkeypatch.undo()
    following = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    following.start()
    released.set()
    await until(lambda: len(stored(engine)) == 2)
    await following.aclose()


async def test_a_hanging_writer_and_a_full_spool_lose_rows_and_say_so(
    engine, tmp_path, monkeypatch, caplog
):
    entered, released = threading.Event(), threading.Event()

    def hang(connection, rows) -> None:
        entered.set()
        released.wait(PATIENCE_S)

    monkeypatch.setattr(evaluation_log, "insert_rows", hang)
    settings = SETTINGS.model_copy(update={"spool_max_bytes": 1})
    log = EvaluationLog(engine, settings, tmp_path / "spool")
    log.start()
    log.record(make_turn(1))
    await until(entered.is_set)
    await log.aclose(grace_s=0.01)
    released.set()

    assert log.counters.dropped_at_close == 1
    assert "the last rows cannot be written to the spool" in caplog.text


async def test_a_torn_line_in_the_spool_counts_as_dropped(engine, tmp_path):
    dead = Spool(tmp_path / "spool", 100_000)
    dead.append([to_payload(to_row(make_turn(1)))])
    dead.close()
    torn = tmp_path / "spool" / "00-torn.rows"
    torn.write_bytes(b"00000000 {")
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.start()
    await until(lambda: log.counters.replayed == 1)
    await log.aclose()

    assert log.counters.dropped_rows == 1
    assert not torn.exists()


async def test_a_spooled_line_of_another_version_does_not_block_the_others(engine, tmp_path):
    dead = Spool(tmp_path / "spool", 100_000)
    newer = to_payload(to_row(make_turn(1))).replace(b'{"request_id"', b'{"new":1,"request_id"')
    foreign = [b"not json", b'["turns", {"new": 1}]', b'["other", {}]', b"[1]", b'["turns", 1]']
    dead.append([*foreign, newer])
    dead.close()
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.start()
    await until(lambda: log.spool_bytes == 0)
    await log.aclose()

    assert stored(engine) == ["req_000001"]
    assert log.counters.dropped_rows == 5


async def test_a_bug_in_the_writer_does_not_end_it(engine, tmp_path, monkeypatch, caplog):
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    replay, failures = log._replay, [RuntimeError("bug")]

    def fail_once() -> bool:
        if failures:
            raise failures.pop()
        return replay()

    monkeypatch.setattr(log, "_replay", fail_once)
    log.start()
    await until(lambda: not failures)
    log.record(make_turn(1))
    await until(lambda: log.counters.written == 1)
    await log.aclose()

    assert "writing failed unexpectedly and is tried again" in caplog.text


async def test_pruning_waits_for_a_database_that_is_down(engine, tmp_path, monkeypatch):
    def fail(connection, before):
        raise OUTAGE

    monkeypatch.setattr(evaluation_log, "prune_rows", fail)
    settings = SETTINGS.model_copy(update={"retention_days": 30})
    log = EvaluationLog(engine, settings, tmp_path / "spool")
    log.start()
    await until(lambda: log.counters.outages > 0)
    await log.aclose()

    assert log.counters.pruned == 0


async def test_recording_never_logs_what_was_asked(engine, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.record(make_turn(1, query_text="my secret", attempts=None))
    log.start()
    await log.aclose()

    assert log.counters.dropped_rows == 1
    assert "refused" in caplog.text
    assert "my secret" not in caplog.text


async def test_a_row_that_cannot_be_spooled_does_not_keep_the_others_out(engine, tmp_path, switch):
    switch.is_on = False
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.record(make_turn(1, metadata={"object": object()}))
    log.record(make_turn(2))
    log.start()
    await log.aclose()

    assert (log.counters.spooled, log.counters.dropped_rows) == (1, 1)


async def test_a_long_queue_is_written_whole_at_the_end(engine, tmp_path):
    settings = EvaluationLogSettings(batch_rows=2, flush_interval_s=3600, retention_days=None)
    log = EvaluationLog(engine, settings, tmp_path / "spool")
    log._is_closing = True
    for number in range(7):
        log.record(make_turn(number))
    log.start()
    await log.aclose()

    assert len(stored(engine)) == 7


async def test_a_spool_of_nothing_but_torn_lines_is_cleared(engine, tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "1.rows").write_bytes(b"00000000 {")
    log = EvaluationLog(engine, SETTINGS, tmp_path / "spool")
    log.start()
    await until(lambda: log.counters.dropped_rows == 1)
    await log.aclose()

    assert list((tmp_path / "spool").iterdir()) == []
