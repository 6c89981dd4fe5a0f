"""Federated training, through the same Flower strategies and client apps as a deployment."""

from collections.abc import Sequence
from typing import Final

from benchmarks.federated_routing.protocol import Rows
from federation.in_process import Exchanged
from federation.learning.settings import KINDS, FederatedSettings
from federation.protocol import EncoderName, TrainingPlan
from federation.server_app import SessionResult
from federation.simulation import RowsSite, simulate
from federation.site import SitePolicy

PAPERS_LEAST_ROWS: Final = 1
"""The paper lets any cell leave a client; what a deployment's 10 costs is measured beside it."""

VALIDATE_EVERY: Final = 3
"""Rounds of the MLP; a validation takes a third of a round's time."""

ANY_ENCODER: Final = "benchmark"


def train_together(
    rows: Sequence[Rows],
    settings: FederatedSettings,
    seed: int,
    *,
    least_rows: int = PAPERS_LEAST_ROWS,
    traffic: list[Exchanged] | None = None,
) -> SessionResult:
    """Run one session, without a guard, over these clients; all have the same models."""
    dimension = rows[0].train.embeddings.shape[1]
    encoder = EncoderName(ANY_ENCODER, "0" * 64, dimension)
    policy = SitePolicy(least_rows=least_rows)
    sites = [
        RowsSite(f"client-{index:04}", own.train, own.validation, encoder, policy)
        for index, own in enumerate(rows)
    ]
    plan = TrainingPlan(
        kind=next(kind for kind, made in KINDS.items() if isinstance(settings, made)),
        settings=settings,
        encoder=encoder,
        columns=rows[0].train.models,
        least_rows=least_rows,
        has_guard=False,
        validate_every=VALIDATE_EVERY,
        seed=seed,
    )
    return simulate(sites, plan, traffic=traffic)
