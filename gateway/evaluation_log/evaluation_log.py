"""The evaluation log: turns, grades, settlements, stored responses, off the request path.

`EvaluationLog.record` puts a record in a queue in memory; one thread writes batches to the
database, to the spool on disk while the database is down, and back from there when it is up again.
Rows are lost only when queue and spool are both full, or with the process (what was recorded within
the last `flush_interval_s`); losses that can be counted are in `dropped`.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from budget.ledger.settlements import SettlementRecord
from budget.ledger.types import UnjournaledCharge
from gateway.evaluation_log.counters import LogCounters
from gateway.evaluation_log.grades import GradeRecord, RecentAnswers
from gateway.evaluation_log.row_layout import to_row
from gateway.evaluation_log.stored_responses import ResponseRecord
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import is_row_fault, summary, writing
from gateway.storage.rows import (
    SLICE_ROWS,
    Row,
    from_payload,
    insert_rows,
    prune_responses,
    prune_rows,
    to_payload,
    touch_keys,
)
from gateway.storage.spool import Spool, SpoolFull
from gateway.types import TurnRecord

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 5.0
ADOPT_INTERVAL_S = 5.0
PRUNE_INTERVAL_S = 3600.0
KEY_USE_INTERVAL_S = 60.0
MAX_KEPT = 100_000

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Of responses that wait to be written; further ones are not stored."""

Record = TurnRecord | GradeRecord | SettlementRecord | ResponseRecord
In = TypeVar("In")
Out = TypeVar("Out")

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Outage:
    """Whether the database is worth trying; times are those of the monotonic clock."""

    is_down: bool = False
    retry_at_s: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S


@dataclass(slots=True)
class _Schedule:
    """When the writer's chores are due; times are those of the monotonic clock."""

    adopt_at_s: float = 0.0
    prune_at_s: float = 0.0
    keys_touched_s: dict[str, float] = field(default_factory=dict)


class EvaluationLog:
    """Takes records on the event loop and writes them in a thread of its own."""

    def __init__(
        self,
        engine: Engine,
        settings: EvaluationLogSettings,
        spool_dir: Path,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = LogCounters()
        self.recent = RecentAnswers()
        self._engine = engine
        self._settings = settings
        self._spool_dir = spool_dir
        self._spool = Spool(spool_dir, settings.spool_max_bytes)
        self._clock = clock
        self._monotonic = monotonic
        self._response_bytes = 0
        self._written_response_bytes = 0
        self._queue: deque[Record] = deque()
        self._wake = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._held: list[Row] = []
        self._kept: deque[UnjournaledCharge] = deque(maxlen=MAX_KEPT)
        self._outage = _Outage()
        self._schedule = _Schedule()

    @property
    def queue_depth(self) -> int:
        """Records in memory that the writer has not taken yet."""
        return len(self._queue)

    @property
    def spool_bytes(self) -> int:
        """Bytes in the spool directory; reads the directory."""
        return self._spool.size_bytes

    @property
    def is_database_down(self) -> bool:
        """Whether the last write failed for want of a database."""
        return self._outage.is_down

    def record(self, record: TurnRecord) -> None:
        """Queue a turn; on the event loop, without I/O, never raises."""
        self.recent.add(record)
        self._enqueue(record)

    def record_grade(self, grade: GradeRecord) -> None:
        """Queue a grade; on the event loop, without I/O, never raises."""
        self._enqueue(grade)

    def record_settlement(self, settlement: SettlementRecord) -> None:
        """Queue a row of the budgets' journal; on the event loop, without I/O, never raises."""
        self._enqueue(settlement)

    def record_response(self, response: ResponseRecord) -> bool:
        """Queue a response, to be written at once; False where there is no room for it.

        On the event loop, without I/O, never raises.
        """
        waiting = self._response_bytes - self._written_response_bytes
        if waiting + response.n_bytes > MAX_RESPONSE_BYTES:
            return False
        if len(self._queue) >= self._settings.queue_rows:
            return False
        self._response_bytes += response.n_bytes
        self._enqueue(response)
        self._wake.set()
        return True

    def take_durable(self) -> list[UnjournaledCharge]:
        """Take what the settlements acknowledge that were written or spooled since the last call.

        Beyond `MAX_KEPT` the oldest are forgotten, and so never acknowledged.
        """
        return [self._kept.popleft() for _ in range(len(self._kept))]

    def start(self) -> None:
        """Start the writer; the database need not be up."""
        self._thread = threading.Thread(target=self._run, name="evaluation-log", daemon=True)
        self._thread.start()

    async def aclose(self, grace_s: float = 10.0) -> None:
        """Write what is queued, to the spool if the database is down, within `grace_s`.

        A writer that hangs in the database is left behind; its batch and the queue go to the spool,
        and rows that reach both are stored once.
        """
        if self._thread is None:
            return
        self._is_closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, grace_s)
        if self._thread.is_alive():
            await asyncio.to_thread(self._spool_unwritten)
        self._thread = None
        if self.counters.dropped:
            logger.error("evaluation log closed with %d rows dropped", self.counters.dropped)

    def _enqueue(self, record: Record) -> None:
        depth = len(self._queue)
        if depth >= self._settings.queue_rows:
            self.counters.dropped_queue += 1
            return
        self._queue.append(record)
        self.counters.recorded += 1
        if depth + 1 == self._settings.batch_rows:
            self._wake.set()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._wake.wait(self._settings.flush_interval_s)
            self._wake.clear()
            is_last = self._is_closing
            try:
                self._flush_all(is_last=is_last)
            except Exception:
                logger.exception("evaluation log: writing failed unexpectedly and is tried again")
        self.counters.dropped_at_close += len(self._held) + len(self._queue)
        self._spool.close()

    def _flush_all(self, *, is_last: bool) -> None:
        """Write all that is queued, and a batch of the spool after each batch of the queue."""
        while True:
            self._held = self._held or self._take()
            if self._held and not self._store():
                return
            if is_last:
                if not self._queue:
                    return
            elif not self._replay() and len(self._queue) < self._settings.batch_rows:
                break
        self._maintain()

    def _take(self) -> list[Row]:
        """Take a batch off the queue."""
        size = min(len(self._queue), self._settings.batch_rows)
        return self._convert(to_row, [self._queue.popleft() for _ in range(size)])

    def _convert(self, convert: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
        """Convert `items` one by one; what cannot be converted is dropped."""
        converted: list[Out] = []
        for number, item in enumerate(items, 1):
            try:
                converted.append(convert(item))
            except (TypeError, ValueError, ArithmeticError, AttributeError, OSError) as error:
                self._reject(error)
            if number % SLICE_ROWS == 0:
                time.sleep(0)  # the event loop's turn
        return converted

    def _store(self) -> bool:
        """Put the held rows in the database or the spool; False if neither takes them now."""
        if self._is_worth_trying():
            try:
                self._write(self._held)
            except (SQLAlchemyError, OSError) as error:
                self._note_outage(error)
            else:
                self._note_success()
                self._release()
                return True
        try:
            payloads = self._convert(to_payload, self._held)
            self._spool.append(payloads)
        except (OSError, SpoolFull) as error:
            logger.warning("evaluation log: rows cannot be written to the spool: %s", error)
            return False
        self.counters.spooled += len(payloads)
        self._release()
        return True

    def _release(self) -> None:
        """Let go of the held rows: they are on disk."""
        self._kept.extend(row.acknowledges for row in self._held if row.acknowledges is not None)
        self._written_response_bytes += sum(row.columns.get("n_bytes", 0) for row in self._held)
        self._held = []

    def _write(self, rows: list[Row]) -> None:
        """Insert `rows`; a bad one among them is singled out by halving and dropped.

        Raises:
            SQLAlchemyError: The database is down; nothing is known about any of the rows.
        """
        try:
            with writing(self._engine) as connection:
                insert_rows(connection, rows)
                used = self._last_used(rows)
                touch_keys(connection, used)
        except Exception as error:
            if not is_row_fault(error):
                raise
            if len(rows) == 1:
                self._reject(error)
                return
            middle = len(rows) // 2
            self._write(rows[:middle])
            self._write(rows[middle:])
        else:
            self.counters.written += len(rows)
            self._schedule.keys_touched_s.update(dict.fromkeys(used, self._monotonic()))

    def _replay(self) -> bool:
        """Write the spool's oldest rows; whether there were any and the database took them."""
        if self._spool.is_empty or not self._is_worth_trying():
            return False
        torn = self._spool.torn_lines
        payloads = self._spool.read(self._settings.batch_rows)
        self.counters.dropped_rows += self._spool.torn_lines - torn
        if not payloads:
            return False
        rows = self._convert(from_payload, payloads)
        try:
            self._write(rows)
        except (SQLAlchemyError, OSError) as error:
            self._note_outage(error)
            return False
        self._note_success()
        self._spool.acknowledge()
        self.counters.replayed += len(rows)
        return True

    def _maintain(self) -> None:
        """Adopt orphaned segments and delete old rows, now and then."""
        now = self._monotonic()
        if now >= self._schedule.adopt_at_s:
            self._schedule.adopt_at_s = now + ADOPT_INTERVAL_S
            if adopted := self._spool.adopt():
                logger.info("evaluation log: took over %d spool segments", adopted)
                self._wake.set()
        if self._outage.is_down or now < self._schedule.prune_at_s:
            return
        today = datetime.fromtimestamp(self._clock(), UTC)
        days, response_days = self._settings.retention_days, self._settings.stored_responses_days
        try:
            with writing(self._engine) as connection:
                pruned = prune_responses(connection, today - timedelta(days=response_days))
                if days is not None:
                    pruned += prune_rows(connection, today - timedelta(days=days))
        except (SQLAlchemyError, OSError) as error:
            self._note_outage(error)
            return
        self.counters.pruned += pruned
        if pruned:
            self._wake.set()  # there may be more; the queue comes first
        else:
            self._schedule.prune_at_s = now + PRUNE_INTERVAL_S

    def _last_used(self, rows: list[Row]) -> dict[str, datetime]:
        """Pick the keys whose last use is worth writing: each at most once a minute."""
        now = self._monotonic()
        touched = self._schedule.keys_touched_s
        used: dict[str, datetime] = {}
        for row in rows:
            if row.table == "turns":
                key_id = row.columns["key_id"]
                if now - touched.get(key_id, -KEY_USE_INTERVAL_S) >= KEY_USE_INTERVAL_S:
                    used[key_id] = row.columns["started_at"]
        return used

    def _is_worth_trying(self) -> bool:
        return not self._outage.is_down or self._monotonic() >= self._outage.retry_at_s

    def _note_outage(self, error: Exception) -> None:
        outage = self._outage
        if not outage.is_down:
            outage.is_down = True
            outage.backoff_s = FIRST_BACKOFF_S
            self.counters.outages += 1
            logger.warning(
                "evaluation log: database down, rows go to the spool: %s", summary(error)
            )
        else:
            logger.debug("evaluation log: database still down: %s", summary(error))
        outage.retry_at_s = self._monotonic() + outage.backoff_s
        outage.backoff_s = min(2 * outage.backoff_s, MAX_BACKOFF_S)

    def _note_success(self) -> None:
        if self._outage.is_down:
            logger.warning("evaluation log: database is back")
        self._outage = _Outage()

    def _reject(self, error: Exception) -> None:
        self.counters.dropped_rows += 1
        logger.error("evaluation log: a row was refused and dropped: %s", type(error).__name__)

    def _spool_unwritten(self) -> None:
        """Spool what a hanging writer has in hand and in its queue, in a segment of its own."""
        rows = list(self._held)
        while self._queue:
            rows.extend(self._take())
        spool = Spool(self._spool_dir, self._settings.spool_max_bytes)
        try:
            payloads = self._convert(to_payload, rows)
            spool.append(payloads)
            self.counters.spooled += len(payloads)
        except (OSError, SpoolFull) as error:
            self.counters.dropped_at_close += len(rows)
            logger.error("evaluation log: the last rows cannot be written to the spool: %s", error)  # noqa: TRY400
        finally:
            spool.close()
