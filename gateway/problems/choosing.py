"""Which prompts a model is asked, and when it has been asked enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.problems.calibration import CalibrationRow
from router_models.day_one.answers import Answers, Learned
from router_models.day_one.belief import Float64, sigmoid
from router_models.day_one.choice import (
    ADAPTIVE_PROMPTS,
    BATCH,
    RANDOM_SHARE,
    choose,
    target_moments,
    transfers,
)
from router_models.day_one.shipped import PoolModel, ShippedPrior
from router_models.types import Float32

LEAST_PROMPTS: Final = 20
"""The floor: a belief that is sure too early is not believed."""

RANDOM_PROMPTS: Final = 160
"""Where profiles do not transfer, each model's own answers have to tell; see `choice.transfers`."""

TELLS_LITTLE: Final = 1e-3
"""By which a batch lowers the expected error (root mean square) of predicted scores; below it,
enough."""


@dataclass(frozen=True, slots=True)
class EveryPrompt:
    """Asks all prompts, in the order given."""

    count: int

    def most(self) -> int:
        """Return how many answers are wanted."""
        return self.count

    def next(self, answers: Mapping[int, CalibrationRow], free: NDArray[np.bool_]) -> Sequence[int]:
        """Return the first prompts that have not been asked."""
        del answers
        return [int(place) for place in np.flatnonzero(free)[:BATCH]]


class Known(NamedTuple):
    """What is known of a model.

    Attributes:
        quality: Mean over the prompts, of which most were not asked.
        stderr: Of that mean.
        tokens: That an answer has, on average.
    """

    quality: float
    stderr: float
    tokens: float


@dataclass(frozen=True, slots=True, eq=False)
class ByPrior:
    """Asks in batches of five, of which half are random, what lowers the error of predictions most.

    Where profiles do not transfer all prompts are random, and there are more of them. Equal answers
    lead to equal prompts, so that a calibration that was killed goes on as it would have.

    Attributes:
        embeddings: Of all prompts; shape ``(n_prompts, dimension)``.
    """

    prior: ShippedPrior
    model: PoolModel
    embeddings: Float32
    seed: int = 0

    def most(self) -> int:
        """Return how many answers are wanted at most."""
        return ADAPTIVE_PROMPTS if self._is_adaptive() else RANDOM_PROMPTS

    def next(self, answers: Mapping[int, CalibrationRow], free: NDArray[np.bool_]) -> Sequence[int]:
        """Return places of the next batch; none where it would tell little."""
        belief = self.learned(answers).belief
        targets = self.prior.queries_for(self.model, self.embeddings)
        items = self.prior.items_for(self.model, self.embeddings)
        moments = target_moments(belief, *targets)
        places = choose(
            belief,
            items,
            moments,
            BATCH,
            random_share=RANDOM_SHARE if self._is_adaptive() else 1.0,
            free=free,
            # Of the same number of answers, so that all models are asked the same random prompts.
            rng=np.random.default_rng([self.seed, len(answers)]),
        )
        if len(answers) < LEAST_PROMPTS:
            return places
        batch = items.take(np.array(places, np.intp))
        told = batch.design.T @ (batch.design / batch.noise(belief.mean)[:, None])
        after = np.linalg.inv(np.linalg.inv(belief.covariance) + told)
        errors = [float(np.sqrt(np.trace(moments @ one))) for one in (belief.covariance, after)]
        return places if errors[0] - errors[1] >= TELLS_LITTLE else []

    def learned(self, answers: Mapping[int, CalibrationRow]) -> Learned:
        """What is believed after these answers."""
        places, rows = list(answers), list(answers.values())
        return self.prior.learn(
            self.model,
            Answers(
                self.embeddings[places],
                np.array([row.score for row in rows], np.float64),
                np.array([row.completion_tokens for row in rows], np.float64),
                np.ones(len(rows)),
            ),
        )

    def known(self, answers: Mapping[int, CalibrationRow]) -> Known:
        """Sum up what is believed, over all prompts."""
        learned = self.learned(answers)
        mean, covariance = learned.belief.mean, learned.belief.covariance
        base, design = self.prior.queries_for(self.model, self.embeddings)
        variance = np.einsum("ni,ij,nj->n", design, covariance, design)
        quality = sigmoid((base + design @ mean) / np.sqrt(1.0 + np.pi / 8.0 * variance))
        slope: Float64 = (design * (quality * (1.0 - quality))[:, None]).mean(axis=0)
        router = self.prior.router([self.model], {self.model.name: learned})
        tokens = router.estimator.predict(self.embeddings).cost_usd * 1e6
        return Known(
            float(quality.mean()),
            float(np.sqrt(slope @ covariance @ slope)),
            float(tokens.mean()),
        )

    def _is_adaptive(self) -> bool:
        return transfers(self.prior.residual)
