"""The desk between the service and the graders."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.evaluation_log.exchange import ForwardedEvents
from gateway.evaluation_log.grades import GradeRecord, RecentAnswers
from gateway.grading.desk import Grade, GradingDesk
from gateway.grading.exchange import Exchange
from gateway.long_work import LongWork
from gateway.types import Caller
from tests.fakes.chat import request
from tests.fakes.turns import make_turn, until

ANSWER = {"choices": [{"message": {"content": "Hello!"}}]}


@dataclass
class ListedGrades:
    """A log that keeps grades in a list."""

    grades: list[GradeRecord] = field(default_factory=list)
    recent: RecentAnswers = field(default_factory=RecentAnswers)

    def record_grade(self, grade: GradeRecord) -> None:
        self.grades.append(grade)


@dataclass
class Recorder:
    """A grader that finds every answer good, once it may."""

    concurrency: int = 1
    name: str = "recorder"
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Exchange] = field(default_factory=list)
    error: Exception | None = None

    async def grade(self, exchange: Exchange) -> Sequence[Grade]:
        self.seen.append(exchange)
        await self.may_go_on.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return [Grade("check", "recorder", 1.0, 0.25, "1")]


@asynccontextmanager
async def open_desk(
    *graders: Recorder, max_bytes: int = 100_000, is_held: bool = False
) -> AsyncIterator[tuple[GradingDesk, ListedGrades]]:
    log = ListedGrades()
    desk = GradingDesk(log, graders, max_bytes=max_bytes, work=LongWork(), clock=lambda: 7.0)
    for grader in graders:
        if not is_held:
            grader.may_go_on.set()
    desk.start()
    yield desk, log
    for grader in graders:
        grader.may_go_on.set()
    await desk.aclose()


def offer(desk: GradingDesk, number: int = 0, team_id: str = "default", **more: Any) -> None:
    turn = make_turn(number, team_id=team_id)
    given: dict[str, Any] = {"said": ANSWER, "n_bytes": 100} | more
    desk.offer(turn, request(), Caller("key", team_id), **given)


async def test_a_grade_is_of_the_exchange_s_turn_and_team() -> None:
    async with open_desk(Recorder()) as (desk, log):
        offer(desk, 5, "blue")

    (grade,) = log.grades
    assert (grade.answer_id, grade.team_id, grade.source) == ("req_000005", "blue", "check")
    assert (grade.score, grade.weight, grade.version) == (1.0, 0.25, "1")
    assert grade.created_at_unix_s == 7.0
    assert desk.counters.grades == {("check", "recorder"): 1}


async def test_a_stream_s_answer_is_read_from_what_was_forwarded() -> None:
    grader, events = Recorder(), ForwardedEvents()
    for text in ("Hel", "lo"):
        chunk = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()
        events.add(chunk)
    async with open_desk(grader) as (desk, _):
        offer(desk, said=events)

    assert grader.seen[0].answer.text == "Hello"
    assert grader.seen[0].answer.is_whole


async def test_a_slow_grader_holds_up_no_other() -> None:
    slow, quick = Recorder(), Recorder()
    async with open_desk(slow, quick, is_held=True) as (desk, log):
        quick.may_go_on.set()
        for number in range(3):
            offer(desk, number)
        await until(lambda: len(log.grades) == 3)

        assert len(slow.seen) == 1


async def test_teams_take_turns() -> None:
    grader = Recorder()
    async with open_desk(grader) as (desk, _):
        for team_id in ("busy", "quiet"):
            for number in range(3):
                offer(desk, number, team_id)

    assert [exchange.caller.team_id for exchange in grader.seen] == ["busy", "quiet"] * 3


async def test_a_team_takes_half_of_the_memory_at_most_and_what_is_beyond_is_counted() -> None:
    grader = Recorder()
    async with open_desk(grader, max_bytes=1_000, is_held=True) as (desk, _):
        for number in range(9):
            offer(desk, number, "busy")
        offer(desk, 9, "quiet")

        assert desk.counters.dropped == 4
        assert desk.memory.held == 600
    assert len(grader.seen) == 6
    assert desk.memory.held == 0


async def test_a_failing_grader_is_counted_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    grader = Recorder(error=ValueError("no"))
    async with open_desk(grader) as (desk, log):
        offer(desk, 0)
        offer(desk, 1)

    assert [grade.answer_id for grade in log.grades] == ["req_000001"]
    assert desk.counters.failed == 1
    assert "req_000000: grading by recorder failed" in caplog.text


async def test_what_a_grader_does_not_end_in_time_is_dropped() -> None:
    grader = Recorder()
    log = ListedGrades()
    desk = GradingDesk(log, [grader], max_bytes=10_000, work=LongWork())
    desk.start()
    offer(desk, 0)
    offer(desk, 1)

    await desk.aclose(grace_s=0.05)

    assert log.grades == []
    assert desk.counters.dropped == 1
