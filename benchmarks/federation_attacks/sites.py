"""Ten sites with their own slices of a real table, and rows that the attacker may ask about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.federated_routing.protocol import Client, join, split
from benchmarks.federation_attacks.membership import Reference
from benchmarks.federation_simulation.simulation import RowsSite
from federation.protocol.protocol import EncoderName
from federation.site import SitePolicy
from router_models.evaluation.frontier import Judge, route
from router_models.types import Encoder, Estimator, Evaluations

ALPHA: Final = 0.6
ANYTHING_GOES: Final = SitePolicy(least_rows=1)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """One deal of a table over the sites.

    Attributes:
        clients: As the routing benchmark deals them; the same seed deals the same.
        encoder: Whose vectors the rows hold.
    """

    clients: Sequence[Client]
    encoder: EncoderName

    @classmethod
    def deal(cls, answers: Evaluations, encoder: Encoder, seed: int) -> "World":
        """Deal a table of complete answers."""
        name = EncoderName(encoder.id, encoder.sha256, encoder.dimension)
        return cls(split(answers, ALPHA, seed), name)

    @property
    def test(self) -> Evaluations:
        """All sites' test rows, with every model's answer."""
        return join(client.test for client in self.clients)

    def sites(
        self, train: Sequence[Evaluations] | None = None, policy: SitePolicy = ANYTHING_GOES
    ) -> list[RowsSite]:
        """Make a site of each client, with other train rows where they are given."""
        rows = train or [client.rows.train for client in self.clients]
        return [
            RowsSite(f"site-{index}", own, client.rows.validation, self.encoder, policy)
            for index, (own, client) in enumerate(zip(rows, self.clients, strict=True))
        ]

    def reference(self, index: int) -> Reference:
        """What the attacker knows of one site: its test rows, and all other sites' train rows."""
        others = [c.rows.train for i, c in enumerate(self.clients) if i != index]
        return Reference(self.clients[index].test, join(others))

    def routing(self, estimator: Estimator) -> dict[str, float]:
        """Measure a router on all sites' test rows."""
        truth = self.test
        figures = Judge.of(truth).figures(route(estimator.predict(truth.embeddings), truth))
        return {"common_auc": figures.common_auc, "quality_first": figures.quality_first}

    def share_of(self, model: str, estimator: Estimator) -> float:
        """Share of test queries that go to one model where cost does not count."""
        best = estimator.predict(self.test.embeddings).quality.argmax(axis=1)
        return float((best == estimator.models.index(model)).mean())

    def worst_model(self) -> str:
        """Name the model of lowest mean quality: where an attacker would like queries to go."""
        truth = self.test
        return truth.models[int(np.argmin(truth.quality.mean(axis=0)))]
