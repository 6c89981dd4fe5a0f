from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from router_models.artifacts.artifact import load
from router_models.errors import InvalidEvaluations
from router_models.evaluation.logged_frontier import LoggedFrontier, measure_frontier
from router_models.evaluation.off_policy import LoggedChoices
from router_models.types import Evaluations
from tests.fakes.artifacts import ENCODER, MODELS, router_artifact

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PAID = (0.001, 1.0)
ROUTER = load(router_artifact(0), ENCODER)


def logged(rows: int = 4000, seed: int = 0) -> LoggedChoices:
    """Log the router's own models, each asked half of the time: small is right 30 %, large 80 %."""
    rng = np.random.default_rng(seed)
    answered = rng.integers(0, 2, rows)
    quality = (rng.random(rows) < np.array([0.3, 0.8])[answered]).astype(np.float32)
    cost = np.array([0.001, 0.01], np.float32)[answered]
    embeddings = rng.standard_normal((rows, ENCODER.dimension)).astype(np.float32)
    even = np.full((rows, 2), 0.5, np.float32)
    return LoggedChoices(embeddings, answered, quality, cost, even, MODELS, np.arange(rows) // 2)


def no_prior(choices: LoggedChoices) -> Evaluations:
    nothing = np.full((1, 2), np.nan, np.float32)
    return Evaluations(choices.embeddings[:1], nothing, nothing, MODELS)


def measured(choices: LoggedChoices, routers=None) -> LoggedFrontier:
    return measure_frontier(
        {"current": ROUTER} if routers is None else routers,
        choices,
        no_prior(choices),
        PAID,
        rng=np.random.default_rng(0),
        now=NOW,
    )


def test_the_best_single_model_is_what_it_was_on_the_log():
    single = measured(logged()).curves[-1]

    assert (single.role, single.version) == ("best_single", "large")
    assert single.points[0].quality.low < 0.8 < single.points[0].quality.high
    assert single.points[0].cost_usd.value == pytest.approx(0.01, rel=0.1)


def test_what_a_router_would_have_cost_is_inside_its_interval():
    choices = logged()
    found = measured(choices).curves[0]

    prediction = ROUTER.serving_estimator.predict(choices.embeddings)
    for point in found.points:
        utility = prediction.quality - prediction.cost_usd / point.willingness_to_pay_usd
        truth = np.array([0.001, 0.01])[utility.argmax(axis=1)].mean()
        assert point.cost_usd.low <= truth <= point.cost_usd.high


def test_answers_to_one_query_count_as_one_draw():
    choices = logged()
    apart = replace(choices, query=np.arange(len(choices.query)))
    together = replace(choices, query=np.arange(len(choices.query)) // 200)
    widths = [
        p.high - p.low
        for p in (measured(c).curves[-1].points[0].quality for c in (apart, together))
    ]
    assert widths[0] != widths[1]
    assert len(set(together.query)) == measured(together).queries


def test_a_point_that_rests_on_a_handful_of_answers_is_left_out():
    assert measured(logged(rows=12)).curves[0].points == ()


def test_refuses_a_log_in_which_nothing_was_drawn_at_random():
    choices = logged()
    with pytest.raises(InvalidEvaluations, match=r"routing\.exploration"):
        measured(choices.select(np.zeros(len(choices.query), bool)))


def test_is_read_as_it_was_written():
    frontier = measured(logged())
    assert LoggedFrontier.from_json(frontier.to_json()) == frontier


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"curves": [{"role": "king"}]}'])
def test_refuses_what_is_no_frontier(damaged):
    with pytest.raises(ValueError, match=r"frontier|role|Expecting"):
        LoggedFrontier.from_json(damaged)


def test_refuses_an_unknown_role():
    text = measured(logged()).to_json().replace('"current"', '"king"')
    with pytest.raises(ValueError, match="king"):
        LoggedFrontier.from_json(text)
