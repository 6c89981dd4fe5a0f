"""A router that knows few models of a pool never draws the traffic to what it happens to know."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.commands.calibrate import PACKAGED_PROMPTS
from gateway.routing.encoders import load_encoder
from gateway.routing.plan import Scores
from gateway.routing.prior import fill_in, open_prior
from tests.fakes.routing import hosted

POOLS = (
    ("gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo"),
    ("gpt-4o-mini", "gpt-4o", "nobody-knows-it", "gpt-3.5-turbo"),
    ("claude-3-5-sonnet", "claude-3-haiku", "gpt-4o", "gemma-2-2b-it", "new-1", "new-2"),
)
PROMPTS = [json.loads(line)["text"] for line in PACKAGED_PROMPTS.read_text().splitlines()][:60]
scores = st.floats(0.02, 0.98)


@given(st.lists(scores, min_size=2, max_size=6, unique=True), st.floats(0.001, 0.999), st.data())
def test_one_known_model_stands_where_the_prior_puts_it_however_good_it_is_believed(
    guessed, own, data
) -> None:
    known = data.draw(st.integers(0, len(guessed) - 1))
    quality = [own if place == known else None for place in range(len(guessed))]
    nothing = (None,) * len(guessed)
    filled = fill_in(
        Scores(tuple(quality), nothing, 1.0, None), Scores(tuple(guessed), nothing, 1.0, None)
    ).quality
    assert filled[known] == own
    gaps = np.abs(np.array(guessed) - guessed[known])
    for place, gap in enumerate(gaps):
        if gap > 1e-3:  # nearer ones may tie in floating point
            assert (filled[place] > own) == (guessed[place] > guessed[known])


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("own", [0.3, 0.7, 0.99])
def test_each_model_known_alone_gets_the_traffic_that_the_prior_alone_would_give_it(
    pool, own
) -> None:
    encoder = load_encoder("static")
    prior = open_prior(encoder)
    assert prior is not None
    router = prior.router({name: hosted(name) for name in pool})
    guesses = [router.predict_pool(one, pool).quality for one in encoder.encode(PROMPTS)]
    nothing = (None,) * len(pool)
    by_prior = Counter(int(np.argmax(np.array(guess, float))) for guess in guesses)
    for known in range(len(pool)):
        quality = tuple(own if place == known else None for place in range(len(pool)))
        by_both = Counter(
            int(np.argmax(np.array(fill_in(
                Scores(quality, nothing, 1.0, None), Scores(guess, nothing, 1.0, None)
            ).quality, float)))
            for guess in guesses
        )  # fmt: skip
        # Where the prior holds two models for equal, rounding decides.
        for place in range(len(pool)):
            assert abs(by_both[place] - by_prior[place]) <= 3
