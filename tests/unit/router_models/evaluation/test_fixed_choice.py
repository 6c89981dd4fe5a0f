import numpy as np
import pytest

from router_models.artifacts.artifact import dump, load
from router_models.evaluation.fixed_choice import FixedChoice, beside_fixed_choice
from router_models.evaluation.frontier import Interval
from router_models.evaluation.off_policy import LoggedChoices
from router_models.training.kmeans import fit_kmeans
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations
from tests.fakes.artifacts import CREATED_AT, EncoderIdentity
from tests.fakes.evaluations import DIMENSION, made_up

ENCODER = EncoderIdentity(dimension=DIMENSION)
PAID = 1.0
TRAIN = made_up(800, seed=1)


def fitted(rows: Evaluations):
    estimator = fit_kmeans(rows, KMeansSettings(n_clusters=8), 0)
    return load(
        dump(estimator, ENCODER, created_at=CREATED_AT, training={}, provenance={}), ENCODER
    )


def choices_of(truth: Evaluations) -> LoggedChoices:
    """One answer to each query, of a model that was drawn evenly."""
    rows, models = truth.quality.shape
    answered = np.arange(rows) % models
    at = np.arange(rows), answered
    odds = np.full((rows, models), 1.0 / models, np.float32)
    return LoggedChoices(
        truth.embeddings,
        answered.astype(np.intp),
        truth.quality[at],
        truth.cost_usd[at],
        odds,
        truth.models,
        np.arange(rows),
    )


def test_finds_what_routing_is_worth_where_every_model_is_good_at_something_else():
    test = made_up(4000, seed=2)
    columns = [0, 1, 2]  # without the one that is good at everything
    train, seen = (
        Evaluations(t.embeddings, t.quality[:, columns], t.cost_usd[:, columns], t.models[:3])
        for t in (TRAIN, test)
    )
    found = beside_fixed_choice(fitted(train), choices_of(seen), train, PAID)
    assert found is not None
    assert found.model == "coder"
    assert not found.is_enough
    # 0.6 of quality, routed, beside 0.4 alone: 0.2 of a dollar for each turn.
    assert 100.0 < found.gain_usd.value < 320.0
    assert f"Routing is worth more than {found.model} alone: +" in str(found)


def test_says_that_one_model_is_enough_where_it_is():
    train = made_up(800, seed=1)
    alike = Evaluations(
        train.embeddings,
        np.tile(train.quality[:, 3:], 2),
        np.full((800, 2), 1e-6, np.float32),
        ("one", "two"),
    )
    test = made_up(1000, seed=2)
    seen = Evaluations(
        test.embeddings,
        np.tile(test.quality[:, 3:], 2),
        np.full((1000, 2), 1e-6, np.float32),
        ("one", "two"),
    )
    found = beside_fixed_choice(fitted(alike), choices_of(seen), alike, PAID)
    assert found is not None
    assert found.is_enough
    assert f"{found.model} alone does as well as routing" in str(found)
    assert found.gain_usd.low <= 0.0 <= found.gain_usd.high


def test_says_nothing_of_a_handful_of_answers():
    few = choices_of(made_up(20, seed=2))
    assert beside_fixed_choice(fitted(TRAIN), few, TRAIN, PAID) is None


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Interval(2.0, 1.0, 3.0), "Routing is worth more than a alone: +2 [+1, +3] USD"),
        (Interval(0.0, -1.0, 1.0), "a alone does as well as routing"),
        (Interval(-2.0, -3.0, -1.0), "Routing is worth less than a alone: -2 [-3, -1] USD"),
    ],
)
def test_says_it_in_money(gain, said):
    text = str(FixedChoice("a", 0.02, gain))
    assert said in text
    assert "USD per 1,000 turns to callers who pay 0.02 USD per unit of quality" in text
