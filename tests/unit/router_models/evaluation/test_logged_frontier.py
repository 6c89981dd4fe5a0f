import json
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


def measured(choices: LoggedChoices, routers=None, *, is_anytime=False) -> LoggedFrontier:
    return measure_frontier(
        {"current": ROUTER} if routers is None else routers,
        choices,
        no_prior(choices),
        PAID,
        now=NOW,
        is_anytime=is_anytime,
    )


def test_the_best_single_model_is_what_it_was_on_the_log():
    found = measured(logged())
    single = found.curves[-1]

    assert (single.role, single.version) == ("best_single", "large")
    assert single.points[0].quality.low < 0.8 < single.points[0].quality.high
    assert single.points[0].cost_usd.value == pytest.approx(0.01, rel=0.1)
    assert found.lead is not None
    assert (found.lead.model, found.lead.rival) == ("large", "small")
    assert found.lead.quality.low < 0.5 < found.lead.quality.high


def test_no_model_is_called_the_best_where_the_log_does_not_tell():
    choices = logged(400)
    alike = replace(choices, quality=np.tile(np.array([0.0, 1.0, 1.0, 0.0], np.float32), 100))
    found = measured(alike)

    assert [curve.role for curve in found.curves] == ["current"]
    assert found.lead is not None
    assert not found.lead.is_decided
    assert found.lead.quality.low < 0.0 < found.lead.quality.high


def test_a_model_that_was_seldom_offered_is_no_single_model():
    choices = logged()
    alone = replace(choices, propensity=np.tile(np.array([0.0, 1.0], np.float32), (4000, 1)))
    alone.propensity[:100] = 0.5
    found = measured(replace(alone, answered=np.ones(4000, np.intp)))

    assert found.lead is None
    assert [curve.role for curve in found.curves] == ["current"]


def test_intervals_for_every_look_are_wider_than_those_for_one():
    once, always = (measured(logged(), is_anytime=anytime) for anytime in (False, True))

    assert (once.is_anytime, always.is_anytime) == (False, True)
    for one, other in zip(once.curves[0].points, always.curves[0].points, strict=True):
        assert other.quality.low < one.quality.low < one.quality.high < other.quality.high
        assert other.cost_usd.low < one.cost_usd.low < one.cost_usd.high < other.cost_usd.high


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
    together = replace(choices, query=np.arange(len(choices.query)) // 20)
    widths = [
        p.high - p.low
        for p in (measured(c).curves[-1].points[0].quality for c in (apart, together))
    ]
    assert widths[0] != pytest.approx(widths[1], rel=0.01)
    assert len(set(together.query)) == measured(together).queries


@pytest.mark.parametrize("answered", [0, 1])
def test_only_points_with_answers_enough_of_their_own_are_shown(answered):
    # Whoever pays little is sent to large two times in three, whoever pays much one time in three;
    # and it was drawn for one answer in twenty. Which answers were, does not matter.
    rare = np.tile(np.array([0.95, 0.05], np.float32), (400, 1))
    drawn = np.full(400, answered)
    found = measured(replace(logged(400), answered=drawn, propensity=rare)).curves[0]

    assert [point.willingness_to_pay_usd for point in found.points] == [1.0]
    assert 30 < found.points[0].effective_answers < 80


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


def test_reads_what_was_written_before_there_were_leads():
    table = json.loads(measured(logged()).to_json())
    del table["lead"], table["is_anytime"]
    found = LoggedFrontier.from_json(json.dumps(table))

    assert (found.lead, found.is_anytime) == (None, False)
    assert len(found.curves) == 2
