"""What serves before any router was trained: the prior, and what the log taught it.

The first trained router has to stand beside that. Compared with nothing it was let in at once,
whatever it had learned from: with 315 graded answers it lost 8 % of utility against the prior
(`benchmarks/closed_loop`). Before another router takes its place it is kept as an artefact, so that
the two can be compared from then on, and the store has something to return to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from gateway.routing.prior import known_names
from router_models.artifacts.artifact import dump
from router_models.artifacts.router import Router
from router_models.artifacts.sealed_file import EncoderIdentity
from router_models.day_one.answers import Answers
from router_models.day_one.shipped import KIND, PoolModel, ShippedPrior
from router_models.evaluation.log_rows import SPLITS, LoggedRows
from router_models.types import TOKENS_PER_MTOK, Float32

TEST: Final = SPLITS.index("test")


@dataclass(frozen=True, slots=True, eq=False)
class FirstRouter:
    """Makes the router that serves while none was activated.

    Attributes:
        prior: That the gateway routes by then.
        upstream_names: What providers call the models that the settings declare.
    """

    prior: ShippedPrior
    upstream_names: Mapping[str, str]

    def of(self, rows: LoggedRows) -> Router | None:
        """Make it of all rows but those that routers are judged on.

        Returns:
            None where tokens were not counted: what it expects of costs are tokens.
        """
        if rows.prices is None or rows.tokens is None:
            return None
        pool, learned = [], {}
        for place, name in enumerate(rows.models):
            prompt, completion = (rows.prices[:, place] * TOKENS_PER_MTOK).tolist()
            names = known_names(self.upstream_names.get(name, name), name)
            model = PoolModel(name, names, (prompt, completion))
            pool.append(model)
            answers = self._answers(rows, place, rows.tokens[1])
            if len(answers):
                learned[name] = self.prior.learn(model, answers)
        return self.prior.router(pool, learned)

    def keep(self, router: Router, encoder: EncoderIdentity, now: datetime) -> bytes:
        """Turn what `of` made into an artefact; `ShippedPrior.is_kept_as` knows it again."""
        return dump(
            router.estimator,
            encoder,
            created_at=now,
            training={"kind": KIND},
            provenance={"models": len(router.models)},
            parent=self.prior.version,
            unit=router.unit,
        )

    def _answers(self, rows: LoggedRows, model: int, tokens: Float32) -> Answers:
        own = (rows.model == model) & (rows.split[rows.query] != TEST)
        texts = rows.embeddings[rows.query[own], : self.prior.manifest.dimension]
        return Answers(
            texts,
            rows.score[own].astype(np.float64),
            tokens[own].astype(np.float64),
            np.ones(own.sum()),
        )
