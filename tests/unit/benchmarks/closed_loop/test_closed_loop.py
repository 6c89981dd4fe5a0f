"""The parts of the simulation that need no tables: the world, its graders, and what is measured."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.closed_loop.gateway import CALLER
from benchmarks.closed_loop.grading import JudgeHost, Opinions, answer_of, open_judge
from benchmarks.closed_loop.measure import compare, days_until_found
from benchmarks.closed_loop.world import CHEAPER, NEWCOMER, POOL, WORSE, Answers, Plan, World

PLAN = Plan(days=6, turns_per_day=20, worse_from=1, cheaper_from=2, newcomer_from=3, mix_from=4)
N_QUERIES = 400


def column(model: str) -> int:
    return list(POOL).index(model)


@pytest.fixture
def world() -> World:
    rng = np.random.default_rng(0)
    n_models = len(POOL)
    answers = Answers(
        tuple(POOL),
        tuple(f"question {number}" for number in range(N_QUERIES)),
        rng.normal(size=(N_QUERIES, 3)).astype(np.float32),
        np.ones((N_QUERIES, n_models)),
        np.full(N_QUERIES, 100.0),
        np.full((N_QUERIES, n_models), 200.0),
        np.full((n_models, 2), 5.0),
        np.arange(N_QUERIES) % 2 == 0,
    )
    return World.draw(answers, PLAN, 0)


def test_no_query_is_asked_twice(world: World) -> None:
    assert len(np.unique(world.asked)) == world.asked.size


def test_the_mix_of_questions_moves(world: World) -> None:
    sciences = world.answers.is_science[world.asked].mean(axis=1)
    assert sciences[PLAN.mix_from :].mean() > 0.7
    assert sciences[: PLAN.mix_from].mean() < 0.5


def test_more_turns_than_queries_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="too few queries"):
        World.draw(world.answers, replace(PLAN, turns_per_day=100), 0)


def test_a_model_gets_worse_on_its_day_and_the_others_do_not(world: World) -> None:
    queries = np.arange(N_QUERIES)
    before, after = world.quality(0, queries), world.quality(PLAN.worse_from, queries)
    assert before.all()
    assert after[:, column(WORSE)].mean() == pytest.approx(1.0 - PLAN.spoiled, abs=0.1)
    assert np.delete(after, column(WORSE), axis=1).all()


def test_a_model_gets_cheaper_on_its_day(world: World) -> None:
    queries = np.arange(3)
    before, after = world.cost_usd(1, queries), world.cost_usd(PLAN.cheaper_from, queries)
    np.testing.assert_allclose(before, (100 * 5.0 + 200 * 5.0) / 1e6)
    np.testing.assert_allclose(after[:, column(CHEAPER)], 0.1 * before[:, column(CHEAPER)])
    np.testing.assert_allclose(after[:, column(WORSE)], before[:, column(WORSE)])


def test_nobody_can_choose_the_new_model_before_its_day(world: World) -> None:
    queries = np.arange(3)
    assert np.isneginf(
        world.utility(PLAN.newcomer_from - 1, queries, 0.02)[:, column(NEWCOMER)]
    ).all()
    assert np.isfinite(world.utility(PLAN.newcomer_from, queries, 0.02)).all()


async def test_the_judge_reads_how_good_an_answer_is_and_errs_as_often_as_it_shall() -> None:
    opinions = Opinions(taken_in=0.25, too_strict=0.1, noise=0.0, kindness=0.0, favour=0.0)
    host = JudgeHost(opinions, 1e9, lambda: 0.0, np.random.default_rng(0))
    judge = open_judge(host)
    said = {
        quality: [
            await judge.score("", answer_of(quality, "small", 300.0), ("small",), CALLER)
            for _ in range(300)
        ]
        for quality in (0.0, 1.0)
    }
    means = {
        quality: np.mean([one.score for one in given if one]) for quality, given in said.items()
    }
    assert means[0.0] == pytest.approx(0.25, abs=0.07)
    assert means[1.0] == pytest.approx(0.9, abs=0.05)


async def test_the_judge_costs_no_more_than_its_cap_on_any_day() -> None:
    now_s = [0.0]
    host = JudgeHost(Opinions(), 0.001, lambda: now_s[0], np.random.default_rng(0))
    judge = open_judge(host)
    graded = []
    for day in (0, 1):
        now_s[0] = day * 86_400.0
        answers = [
            await judge.score("", answer_of(1.0, "small", 300.0), (), CALLER) for _ in range(50)
        ]
        graded.append(sum(answer is not None for answer in answers))
    assert 0 < graded[0] < 50
    assert graded[1] > 0
    assert max(host.spent_usd.values()) <= 0.001


def test_a_change_is_found_when_half_of_the_traffic_moved() -> None:
    informed = np.array([0.8, 0.8, 0.8, 0.0, 0.0, 0.0])
    assert days_until_found(np.array([0.8, 0.8, 0.8, 0.7, 0.3, 0.0]), informed, 3) == 1.0
    assert days_until_found(np.full(6, 0.8), informed, 3) == np.inf
    assert np.isnan(days_until_found(np.zeros(6), informed, 3))


def test_a_contender_that_does_as_the_first_router_is_never_found_worse(world: World) -> None:
    first = np.random.default_rng(0).random(world.asked.size)
    same = compare(first, first, world)
    assert (same["worst_day"], same["days_below"], same["is_worse"]) == (1.0, 0, False)


def test_a_contender_that_loses_half_is_found_worse(world: World) -> None:
    first = np.ones(world.asked.size)
    lost = compare(first / 2.0, first, world)
    assert lost["worst_day"] == pytest.approx(0.5)
    assert lost["days_below"] == PLAN.days
    assert lost["is_worse"]
