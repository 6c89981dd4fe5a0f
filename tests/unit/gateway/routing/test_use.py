import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from gateway.evaluation_log.graded_answers import GradedAnswer
from gateway.following import watch
from gateway.routing.use import LearningFromUse
from tests.fakes.artifacts import ENCODER
from tests.fakes.patience import PATIENCE_S
from tests.fakes.priors import day_one
from tests.fakes.routing import hosted, planned, request

NOW = datetime(2026, 11, 30, tzinfo=UTC)
QUERY = np.zeros(ENCODER.dimension, np.float32)
MODELS = {name: hosted(name) for name in ("able", "new", "weak")}


def answers(model: str, score: float, count: int = 40, **changes) -> list[GradedAnswer]:
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((count, ENCODER.dimension)).astype(np.float32)
    return [GradedAnswer(model, one, score, 1.0, 300)._replace(**changes) for one in queries]


class Log:
    """The grades that a database would hold."""

    def __init__(self, *graded: GradedAnswer) -> None:
        self.graded = list(graded)
        self.at = NOW
        self.reads = 0
        self.is_down = False

    def newest(self):
        if self.is_down:
            raise OperationalError("select", {}, Exception("down"))
        return (self.at, str(len(self.graded))) if self.graded else None

    def read(self):
        self.reads += 1
        return self.graded


def learning(log, prior=None, now=NOW) -> LearningFromUse:
    return LearningFromUse(log, prior or day_one(), MODELS, lambda: now)


def quality(prior) -> dict[str, float]:
    found = prior.router(MODELS).predict_pool(QUERY, tuple(MODELS))
    return dict(zip(MODELS, found.quality, strict=True))


def doubt(prior) -> dict[str, float]:
    return dict(zip(MODELS, prior.router(MODELS).quality_stderr(QUERY, tuple(MODELS)), strict=True))


def lengths(prior) -> dict[str, float]:
    tokens = prior.router(MODELS).predict_pool(QUERY, tuple(MODELS)).completion_tokens
    return dict(zip(MODELS, tokens, strict=True))


async def test_grades_change_what_is_expected_of_the_models_that_were_graded_alone() -> None:
    prior = day_one()
    before, unsure = quality(prior), doubt(prior)
    assert await learning(Log(*answers("new", 0.95), *answers("able", 0.1)), prior).refresh()
    after = quality(prior)
    assert after["new"] > before["new"] + 0.1
    assert after["able"] < before["able"] - 0.2
    assert after["weak"] == before["weak"]
    assert doubt(prior)["new"] < 0.5 * unsure["new"]


async def test_auto_goes_to_another_model_once_grades_say_so(routing) -> None:
    prior = day_one()
    it = await routing(*MODELS.values(), with_router=False, prior=prior)
    rich = request(waypost={"willingness_to_pay": 1e6})
    assert (await planned(it, rich)).models[0].name == "able"
    await learning(Log(*answers("new", 0.95), *answers("able", 0.1)), prior).refresh()
    plan = await planned(it, rich)
    assert (plan.models[0].name, plan.reason) == ("new", "router")


async def test_lengths_are_learned_too() -> None:
    prior = day_one()
    before = lengths(prior)
    log = Log(*answers("new", 0.5, tokens=2000), *answers("able", 0.5, tokens=None))
    await learning(log, prior).refresh()
    after = lengths(prior)
    assert after["new"] > 3 * before["new"]
    assert after["able"] == pytest.approx(before["able"])


async def test_grades_of_little_weight_say_less() -> None:
    trusted, doubted = day_one(), day_one()
    await learning(Log(*answers("new", 1.0)), trusted).refresh()
    await learning(Log(*answers("new", 1.0, weight=0.05)), doubted).refresh()
    assert quality(day_one())["new"] < quality(doubted)["new"] < quality(trusted)["new"]


async def test_equal_logs_give_equal_beliefs_in_every_process_and_whenever_it_looked() -> None:
    first, second = day_one(), day_one()
    early, late = answers("new", 0.9, 20), answers("weak", 0.2, 20)
    log = Log(*early)
    it = learning(log, first)
    await it.refresh()
    log.graded += late
    await it.refresh()
    await learning(Log(*early, *late), second).refresh()
    assert quality(first) == quality(second)


async def test_nothing_is_read_again_while_no_grade_is_new() -> None:
    log = Log(*answers("new", 0.9))
    it = learning(log)
    assert [await it.refresh(), await it.refresh()] == [True, False]
    assert log.reads == 1


async def test_a_turn_that_is_written_after_its_grade_counts_at_the_next_look() -> None:
    now, prior, log = [NOW], day_one(), Log(*answers("weak", 0.5, 1))
    it = LearningFromUse(log, prior, MODELS, lambda: now[0])
    await it.refresh()
    before = quality(prior)["new"]
    late, log.newest = answers("new", 0.99), lambda: (NOW, "1")  # type: ignore[method-assign]
    log.graded += late
    assert not await it.refresh()
    now[0] += timedelta(seconds=30)
    assert await it.refresh()
    assert quality(prior)["new"] > before
    assert not await it.refresh()


async def test_a_database_that_is_down_leaves_what_is_believed() -> None:
    prior, log = day_one(), Log(*answers("new", 0.9))
    it = learning(log, prior)
    await it.refresh()
    believed = quality(prior)
    log.is_down = True
    assert not await it.refresh()
    assert quality(prior) == believed


async def test_answers_embedded_otherwise_and_models_that_are_gone_are_left_out() -> None:
    prior = day_one()
    before = quality(prior)
    wide = np.zeros(ENCODER.dimension + 1, np.float32)
    log = Log(*answers("gone", 1.0), *answers("new", 1.0, embedding=wide))
    assert await learning(log, prior).refresh()
    assert quality(prior) == before


@pytest.mark.parametrize(("hours", "expected"), [(1, True), (23, True), (25, False)])
async def test_it_counts_as_graded_for_a_day_after_the_last_grade(hours, expected) -> None:
    it = learning(Log(*answers("new", 0.9)), now=NOW + timedelta(hours=hours))
    assert not it.is_graded()
    await it.refresh()
    assert it.is_graded() is expected


async def test_it_looks_again_and_again_whatever_becomes_of_one_look() -> None:
    looked = asyncio.Queue[None]()
    loop = asyncio.get_running_loop()

    class Disordered(Log):
        def newest(self):
            loop.call_soon_threadsafe(looked.put_nowait, None)
            raise RuntimeError("the log is in disorder")

    watching = asyncio.create_task(watch(learning(Disordered()), 0.001))
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(3):
            await looked.get()
    watching.cancel()
