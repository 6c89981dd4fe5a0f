"""Has answered turns graded off the request path, without anybody asking for it.

The service hands each answered turn over and goes on. Every grader has a line of its own, so that
none waits for a slower one, and in each line the teams take turns. What is waiting is bounded, in
number and in bytes, for all and for each team; what is beyond is dropped and counted.
"""

import asyncio
import logging
import random
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from budget.errors import BudgetError
from budget.in_flight import Hold, InFlight
from gateway.evaluation_log.exchange import ForwardedEvents
from gateway.evaluation_log.grades import GradeLog, GradeRecord, GradeSource
from gateway.grading.exchange import Exchange, answer_in
from gateway.long_work import LongWork
from gateway.types import Caller, TurnRecord
from gateway.wire import ChatRequest

MAX_WAITING: Final = 2_000
"""Turns in each line; those of one team may be half of them."""
SHORT: Final = 16_384
"""Bytes or characters that are read at once: that takes 0.1 ms, no more than a thread's start."""
BYTES_PER_PROMPT_TOKEN: Final = 16
"""Of a request whose size nobody counted, decoded."""

Given = ParamSpec("Given")
Made = TypeVar("Made")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader makes of an answer.

    Attributes:
        grader: Which check, prompt or model it comes from: one of few, since each has a series.
        score: 0 (useless) to 1 (perfect).
        weight: How much that says of this answer, 0 (nothing) to 1.
        version: Of the check or prompt.
        answer_id: The graded turn of the same team; None is that of the exchange.
    """

    source: GradeSource
    grader: str
    score: float
    weight: float = 1.0
    version: str | None = None
    comment: str | None = None
    answer_id: str | None = None


class Grader(Protocol):
    """Grades exchanges, on the event loop: what takes long it does in a thread or elsewhere."""

    @property
    def name(self) -> str:
        """What it is called in log lines."""
        ...

    @property
    def concurrency(self) -> int:
        """How many exchanges it takes at a time."""
        ...

    async def grade(self, exchange: Exchange) -> Sequence[Grade]:
        """Return what can be said of it, maybe nothing."""
        ...


@dataclass(slots=True)
class DeskCounters:
    """What became of answered turns, since the start of the process.

    Attributes:
        offered: Handed over by the service.
        dropped: Not looked at by every grader, for want of room or time.
        failed: Graders that raised an error.
        grades: Number of grades by source and grader; `scores` is their sum.
    """

    offered: int = 0
    dropped: int = 0
    failed: int = 0
    grades: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    scores: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))


@dataclass(slots=True)
class _Case:
    """An exchange on its way through the lines; its memory is given back after the last one."""

    record: TurnRecord
    request: ChatRequest
    caller: Caller
    said: Mapping[str, Any] | ForwardedEvents | None
    hold: Hold
    lines_left: int
    exchange: Exchange | None = None
    reading: asyncio.Task[Exchange] | None = None

    def read(self) -> Exchange:
        """Read what was answered, and let go of what it was sent as."""
        said, self.said = self.said, None
        answer = answer_in(said or {}, self.record.finish_reason)
        self.exchange = Exchange(self.record, self.request, self.caller, answer)
        return self.exchange

    def leave(self) -> None:
        """Note that one line is done with it."""
        self.lines_left -= 1
        if not self.lines_left:
            self.hold.__exit__(None, None, None)


class GradingDesk:
    """Takes answered turns on the event loop and hands their grades to the evaluation log.

    Args:
        log: Where grades go.
        graders: Those that are on.
        max_bytes: Memory of all turns that wait; a team may hold half of it.
        work: Reads answers, in a thread.
    """

    def __init__(
        self,
        log: GradeLog,
        graders: Sequence[Grader],
        *,
        max_bytes: int,
        work: LongWork,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.counters = DeskCounters()
        self.memory = InFlight(max_bytes, max_bytes // 2)
        self._log = log
        self._work = work
        self._clock = clock
        self._rng = random.Random()  # noqa: S311 (ids must differ, not be secret)
        self._lines = [_Line(grader, self) for grader in graders]

    @property
    def waiting(self) -> int:
        """Turns in the longest line."""
        return max((line.n_waiting for line in self._lines), default=0)

    def start(self) -> None:
        """Start the graders; on the event loop."""
        for line in self._lines:
            line.start()

    def offer(
        self,
        record: TurnRecord,
        request: ChatRequest,
        caller: Caller,
        said: Mapping[str, Any] | ForwardedEvents,
        n_bytes: int = 0,
    ) -> None:
        """Take an answered turn, or drop it; never waits, never raises.

        Args:
            record: Complete; nobody changes it any more.
            said: What was sent to the caller: a whole answer in OpenAI's form, or a stream's
                events.
            n_bytes: Memory that the request and a whole answer take, as far as that is known.
        """
        self.counters.offered += 1
        hold = self.memory.hold(caller.team_id)
        n_bytes = n_bytes or BYTES_PER_PROMPT_TOKEN * request.prompt_tokens
        try:
            hold.grow(n_bytes + (said.n_kept_bytes if isinstance(said, ForwardedEvents) else 0))
        except BudgetError:
            self.counters.dropped += 1
            return
        lines = [line for line in self._lines if line.has_room(caller.team_id)]
        if len(lines) < len(self._lines):
            self.counters.dropped += 1
        case = _Case(record, request, caller, said, hold, len(lines) + 1)
        for line in lines:
            line.add(case)
        case.leave()

    async def aclose(self, grace_s: float = 5.0) -> None:
        """Grade what waits, within `grace_s`; the rest is dropped and counted."""
        for line in self._lines:
            line.close()
        running = [task for line in self._lines for task in line.tasks]
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=grace_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self.counters.dropped += sum(line.n_waiting for line in self._lines)

    async def grade(self, grader: Grader, case: _Case) -> None:
        """Have one grader look at one exchange; its failure is logged and counted."""
        try:
            exchange = await self._read(case)
            grades = await grader.grade(exchange)
        except Exception:  # noqa: BLE001 (one exchange must not end the grading of others)
            self.counters.failed += 1
            _log.exception("%s: grading by %s failed", case.record.request_id, grader.name)
            return
        for grade in grades:
            self._keep(grade, exchange)

    async def _read(self, case: _Case) -> Exchange:
        """Read the answer once, for all lines; a long stream's in a thread."""
        if case.exchange is not None:
            return case.exchange
        said = case.said
        if not isinstance(said, ForwardedEvents) or said.n_kept_bytes <= SHORT:
            return case.read()
        if case.reading is None:
            case.reading = asyncio.create_task(self._work.aside(case.read))
        # A line that is cancelled leaves it to the others.
        return await asyncio.shield(case.reading)

    def _keep(self, grade: Grade, exchange: Exchange) -> None:
        self._log.record_grade(
            GradeRecord(
                grade_id=f"{self._rng.getrandbits(128):032x}",
                answer_id=grade.answer_id or exchange.record.request_id,
                team_id=exchange.caller.team_id,
                grader=grade.grader,
                source=grade.source,
                score=grade.score,
                comment=grade.comment,
                created_at_unix_s=self._clock(),
                weight=grade.weight,
                version=grade.version,
            )
        )
        name = (grade.source, grade.grader)
        self.counters.grades[name] += 1
        self.counters.scores[name] += grade.score


async def at_once(
    function: Callable[Given, Made], /, *args: Given.args, **kwargs: Given.kwargs
) -> Made:
    """Call a function here, as `LongWork.aside` does in a thread."""
    return function(*args, **kwargs)


class _Line:
    """The turns that wait for one grader; teams take turns."""

    def __init__(self, grader: Grader, desk: GradingDesk) -> None:
        self.n_waiting = 0
        self.tasks: list[asyncio.Task[None]] = []
        self._grader = grader
        self._desk = desk
        self._waiting: OrderedDict[str, deque[_Case]] = OrderedDict()
        self._wake = asyncio.Event()
        self._is_closing = False

    def has_room(self, team_id: str) -> bool:
        is_full = len(self._waiting.get(team_id, ())) >= MAX_WAITING // 2
        return self.n_waiting < MAX_WAITING and not is_full

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self._run()) for _ in range(self._grader.concurrency)]

    def add(self, case: _Case) -> None:
        self._waiting.setdefault(case.caller.team_id, deque()).append(case)
        self.n_waiting += 1
        self._wake.set()

    def close(self) -> None:
        self._is_closing = True
        self._wake.set()

    async def _run(self) -> None:
        while True:
            while not self._waiting:
                if self._is_closing:
                    return
                self._wake.clear()
                await self._wake.wait()
            await self._grade(self._next())

    async def _grade(self, case: _Case) -> None:
        """Grade one; in a frame of its own, so that an idle line holds no request in memory."""
        try:
            await self._desk.grade(self._grader, case)
        finally:
            case.leave()

    def _next(self) -> _Case:
        """Take the first turn of the team whose turn it is."""
        team_id, cases = self._waiting.popitem(last=False)
        case = cases.popleft()
        if cases:
            self._waiting[team_id] = cases
        self.n_waiting -= 1
        return case
