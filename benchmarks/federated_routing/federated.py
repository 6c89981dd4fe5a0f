"""Federated training, through the same strategies and client apps as a deployment."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from benchmarks.federated_routing.protocol import Rows
from benchmarks.federation_simulation.in_process import Exchanged
from benchmarks.federation_simulation.simulation import RowsSite, simulate
from federation.coordinator.growing import Parent
from federation.coordinator.session import SessionResult
from federation.learning.settings import KINDS, FederatedSettings
from federation.protocol.joining import CLIENTS_JOIN
from federation.protocol.protocol import EncoderName, TrainingPlan
from federation.site import SitePolicy
from router_models.artifacts.artifact import load
from router_models.types import Estimator

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
    plan = replace(_plan(rows, settings, least_rows, seed), columns=rows[0].train.models)
    return simulate(_sites(rows, plan), plan, traffic=traffic)


def grow(
    router: SessionResult, rows: Sequence[Rows], settings: FederatedSettings, joining: str
) -> Estimator:
    """Let these clients' new models, or these new clients, join a router."""
    plan = _plan(rows, settings, PAPERS_LEAST_ROWS, router.plan.seed)
    parent = Parent(load(router.artifact, plan.encoder), router.progress.sites)
    plan = parent.plan(plan, (joining,))
    first = len(parent.sites) if joining == CLIENTS_JOIN else 0
    return simulate(_sites(rows, plan, first), plan, start=parent.progress()).estimator


def _plan(
    rows: Sequence[Rows], settings: FederatedSettings, least_rows: int, seed: int
) -> TrainingPlan:
    return TrainingPlan(
        kind=next(kind for kind, made in KINDS.items() if isinstance(settings, made)),
        settings=settings,
        encoder=EncoderName(ANY_ENCODER, "0" * 64, rows[0].train.embeddings.shape[1]),
        least_rows=least_rows,
        has_guard=False,
        validate_every=VALIDATE_EVERY,
        seed=seed,
    )


def _sites(rows: Sequence[Rows], plan: TrainingPlan, first: int = 0) -> list[RowsSite]:
    policy = SitePolicy(least_rows=plan.least_rows)
    return [
        RowsSite(f"client-{index:04}", own.train, own.validation, plan.encoder, policy)
        for index, own in enumerate(rows, first)
    ]
