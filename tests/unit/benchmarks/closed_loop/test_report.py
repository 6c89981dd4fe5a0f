"""The tables of the page, of seeds that were made up."""

import numpy as np
import pytest

from benchmarks.closed_loop.contenders import FIRST, INFORMED, JUDGED, LOOP, Choices
from benchmarks.closed_loop.measure import measure
from benchmarks.closed_loop.report import interval, tables
from benchmarks.closed_loop.world import POOL, Answers, Plan, World

N_QUERIES = 12_000


def seed(number: int, *names: str) -> dict[str, object]:
    """Let the named contenders always ask the first model; the informed one asks the second."""
    n_models = len(POOL)
    quality = np.zeros((N_QUERIES, n_models))
    quality[:, 0], quality[:, 1] = 0.5, 1.0
    answers = Answers(
        tuple(POOL),
        ("",) * N_QUERIES,
        np.zeros((N_QUERIES, 1), np.float32),
        quality,
        np.zeros(N_QUERIES),
        np.zeros((N_QUERIES, n_models)),
        np.ones((n_models, 2)),
        np.arange(N_QUERIES) % 2 == 0,
    )
    world = World.draw(answers, Plan(), number)
    utilities = np.concatenate([world.utility(d, q, 0.02) for d, q in enumerate(world.asked)])
    first = Choices(np.zeros(len(utilities), np.intp), [(5.0, "activated", "it is better")])
    made = dict.fromkeys((FIRST, *names), first)
    made[INFORMED] = Choices(np.ones(len(utilities), np.intp))
    return {"seed": number, "estimator": "knn", "contenders": measure(world, utilities, made)}


def test_a_contender_that_took_part_in_one_seed_stands_beside_the_first_router_of_that_seed():
    found = tables([seed(0, JUDGED), seed(1)])
    assert found["seeds"] == "2 seeds"
    assert f"| {JUDGED} | 1 | 0.5000 | 0.0 | 0.00 |" in found["totals"]
    assert f"| {INFORMED} | 2 | 1.0000 ± 0.0000 | 100.0 ± 0.0 | 1.00 |" in found["totals"]
    assert f"| {JUDGED} | 1.000 |" in found["first"]
    assert f"| {JUDGED} | 0.00 | 0.000 | 0 | 0.00 | 1.0 | 0.0 | 0.0 |" in found["money"]
    assert f"| {LOOP} |" not in found["money"]


def test_an_interval_is_student_s_over_the_seeds():
    mean, reach = interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert reach == pytest.approx(3.182 * 1.29099 / 2.0, rel=0.02)
