"""Routing before any router was trained: by what public evaluations say of the pool's models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import isnan, nan
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from budget.ledger.amounts import NUSD_PER_USD
from gateway.evaluation_log.graded_answers import GradedAnswer
from gateway.routing.plan import Scores
from gateway.types import HostedModel
from router_models.artifacts.router import Router
from router_models.artifacts.sealed_file import EncoderIdentity
from router_models.day_one.answers import Answers, Learned
from router_models.day_one.shipped import PoolModel, ShippedPrior, load_prior
from router_models.types import Float64

DATA: Final = Path(__file__).with_name("data")

LEAST_SCORE: Final = 1e-6
"""Only so that logits are finite: a larger one would leave a model that a router believes all but
perfect ahead of abler ones that it does not know."""


def open_prior(encoder: EncoderIdentity) -> "DayOne | None":
    """Read the prior that ships for this encoder; None where there is none."""
    file = DATA / f"prior-{encoder.id}.safetensors"
    return DayOne(load_prior(file.read_bytes(), encoder)) if file.exists() else None


class _Made(NamedTuple):
    """A router, and the models it was made for."""

    models: tuple[HostedModel, ...]
    router: Router


@dataclass(slots=True, eq=False)
class DayOne:
    """Makes a router of the prior for the models that are offered now."""

    prior: ShippedPrior
    _learned: Mapping[str, Learned] = field(default_factory=dict, init=False)
    _made: _Made | None = field(default=None, init=False)

    @property
    def version(self) -> str:
        """Name of the prior; its routers bear it."""
        return self.prior.version

    def router(self, offered: Mapping[str, HostedModel]) -> Router:
        """Return the router of all hosted models; adapters come and go."""
        models = tuple(offered.values())
        made = self._made
        if made is None or models != made.models:
            made = self._made = self._make(models)
        return made.router

    def learn(self, models: tuple[HostedModel, ...], answers: Sequence[GradedAnswer]) -> None:
        """Believe of each model what its answers say, and nothing that older ones said.

        Runs in a thread: what is believed is replaced as a whole, and never changed in place.
        """
        self._learned = {
            model.name: self.prior.learn(as_pool_model(model), own)
            for model in models
            if (own := _answers_of(model.name, answers, self.prior.manifest.dimension)) is not None
        }
        self._made = self._make(models)

    def _make(self, models: tuple[HostedModel, ...]) -> _Made:
        pool = [as_pool_model(model) for model in models]
        return _Made(models, self.prior.router(pool, self._learned))


def _answers_of(model: str, answers: Sequence[GradedAnswer], dimension: int) -> Answers | None:
    own = [one for one in answers if one.model == model and len(one.embedding) == dimension]
    if not own:
        return None
    return Answers(
        np.array([one.embedding for one in own], np.float32),
        np.array([one.score for one in own]),
        np.array([nan if one.tokens is None else one.tokens for one in own], np.float64),
        np.array([one.weight for one in own]),
    )


def fill_in(scores: Scores, guess: Scores) -> Scores:
    """Take from `guess`, the prior's, what a router does not know."""
    own, other = (np.array(each.quality, np.float64) for each in (scores, guess))
    quality = filled(own, other).tolist()
    tokens = scores.completion_tokens
    return Scores(
        tuple([None if isnan(each) else each for each in quality]),
        _first(scores.cost_usd, guess.cost_usd),
        scores.familiarity,
        scores.quality_stderr and _first(scores.quality_stderr, guess.quality_stderr or ()),
        tokens and _first(tokens, guess.completion_tokens or ()),
        scores.caches,
    )


def filled(quality: Float64, guess: Float64) -> Float64:
    """Take from `guess` the qualities that are not known, which are not numbers.

    A router learned from other graders than the prior did. So the prior's logits are moved by what
    the two differ in over the models that both predict.
    """
    is_known = ~np.isnan(quality)
    both = is_known & ~np.isnan(guess)
    moved = (_logit(quality[both]) - _logit(guess[both])).sum() / max(both.sum(), 1)
    return np.where(is_known, quality, 1.0 / (1.0 + np.exp(-_logit(guess) - moved)))


def _first(own: Sequence[float | None], others: Sequence[float | None]) -> tuple[float | None, ...]:
    pairs = zip_longest(own, others)
    return tuple([b if a is None else a for a, b in pairs])


def _logit(score: Float64) -> Float64:
    score = np.clip(score, LEAST_SCORE, 1.0 - LEAST_SCORE)
    return np.log(score / (1.0 - score))


def as_pool_model(model: HostedModel) -> PoolModel:
    """Describe a hosted model by the names that others may know it by, and its price."""
    prices = model.price.input_nusd_per_mtok, model.price.output_nusd_per_mtok
    usd = tuple(price / NUSD_PER_USD for price in prices)
    return PoolModel(model.name, known_names(model.upstream_name, model.name), (usd[0], usd[1]))


def known_names(*named: str) -> tuple[str, ...]:
    """Return the names by which the prior may know a model that is called so, likeliest first."""
    # Hosts put an organisation before a model's name: "openai/gpt-4o-mini".
    bare = tuple(name.rsplit("/", 1)[-1] for name in named)
    return tuple(dict.fromkeys([*named, *bare, *(name.lower() for name in bare)]))
