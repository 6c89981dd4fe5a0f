from dataclasses import replace

import numpy as np
import pytest

from gateway.problems.calibration import CalibrationRow
from gateway.problems.choosing import LEAST_PROMPTS, RANDOM_PROMPTS, ByPrior
from router_models.day_one.choice import ADAPTIVE_PROMPTS
from router_models.day_one.shipped import PoolModel, ShippedPrior, load_prior
from tests.fakes.artifacts import ENCODER
from tests.fakes.priors import prior_bytes

COUNT = 400
EMBEDDINGS = np.random.default_rng(0).standard_normal((COUNT, ENCODER.dimension)).astype(np.float32)


def prior(residual: float) -> ShippedPrior:
    loaded = load_prior(prior_bytes(), ENCODER)
    return replace(loaded, manifest=replace(loaded.manifest, training={"residual": residual}))


def chooser(residual: float, model: str = "new") -> ByPrior:
    return ByPrior(prior(residual), PoolModel(model, (model,), (1.0, 1.0)), EMBEDDINGS)


def row(score: float) -> CalibrationRow:
    return CalibrationRow("q", "q", "t", "m", score, 1, 100, 0.0, 0.5, "train", "")


def followed(it: ByPrior, score: float = 1.0, most: int = COUNT) -> dict[int, CalibrationRow]:
    """Answer what is asked until nothing further is."""
    answers: dict[int, CalibrationRow] = {}
    free = np.ones(COUNT, bool)
    while len(answers) < most and (places := it.next(answers, free)):
        assert not set(places) & set(answers)
        free[list(places)] = False
        answers |= {place: row(score) for place in places}
    return answers


def test_where_profiles_do_not_transfer_there_are_more_prompts() -> None:
    assert chooser(0.1).most() == ADAPTIVE_PROMPTS < chooser(0.5).most() == RANDOM_PROMPTS


def test_where_profiles_do_not_transfer_all_models_are_asked_the_same_random_prompts() -> None:
    free = np.ones(COUNT, bool)
    new, able = chooser(0.5, "new"), chooser(0.5, "able")
    assert list(new.next({}, free)) == list(able.next({}, free))


def test_where_they_transfer_half_of_the_prompts_depend_on_what_is_believed() -> None:
    free = np.ones(COUNT, bool)
    told = {place: row(1.0) for place in range(5)}, {place: row(0.0) for place in range(5)}
    free[:5] = False
    right, wrong = (set(chooser(0.1).next(answers, free)) for answers in told)
    assert len(right) == len(wrong) == 5
    assert right & wrong


@pytest.mark.parametrize("residual", [0.1, 0.5])
def test_it_stops_when_the_next_prompts_tell_little_and_not_below_the_floor(residual) -> None:
    asked = followed(chooser(residual), most=RANDOM_PROMPTS)
    assert LEAST_PROMPTS <= len(asked) < RANDOM_PROMPTS


def test_a_calibration_that_was_killed_goes_on_as_it_would_have() -> None:
    whole = list(followed(chooser(0.1), most=20))
    part = {place: row(1.0) for place in whole[:10]}
    free = np.ones(COUNT, bool)
    free[whole[:10]] = False
    assert list(chooser(0.1).next(part, free)) == whole[10:15]


def test_what_is_known_gets_surer_with_answers_and_follows_them() -> None:
    it = chooser(0.5)
    nothing, right = it.known({}), it.known({place: row(1.0) for place in range(60)})
    wrong = it.known({place: row(0.0) for place in range(60)})
    assert wrong.quality < nothing.quality < right.quality
    assert right.stderr < 0.5 * nothing.stderr
    assert right.tokens < nothing.tokens
