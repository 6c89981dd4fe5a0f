"""Whole sessions in this process: the same code as in a deployment, without its processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import numpy as np

from benchmarks.federation_simulation.in_process import Exchanged, Fault, InProcessGrid
from federation.coordinator.checkpoint import Checkpoints
from federation.coordinator.session import Session, SessionResult
from federation.coordinator.strategies import Progress
from federation.node.client_app import build_client_app
from federation.protocol.protocol import EncoderName, TrainingPlan
from federation.site import SCHEMA_VERSION, Site, SitePolicy, SiteProfile, Verdict
from router_models.artifacts.artifact import read_manifest
from router_models.artifacts.registry import ModelRegistry
from router_models.types import Evaluations

LONG_AGO: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Date of a simulated router, so that equal routers are equal artefacts."""


@dataclass(slots=True)
class MemoryCheckpoints:
    """Keeps the latest checkpoint in memory."""

    latest: bytes | None = None

    def load(self) -> bytes | None:
        """Return it; None where there is none."""
        return self.latest

    def save(self, data: bytes) -> None:
        """Keep it."""
        self.latest = data

    def clear(self) -> None:
        """Forget it."""
        self.latest = None


@dataclass(frozen=True, slots=True)
class RowsSite:
    """A site made of two tables of evaluations; it keeps every router as a candidate."""

    name: str
    train: Evaluations
    held_out: Evaluations
    encoder: EncoderName
    policy: SitePolicy = field(default_factory=SitePolicy)

    def profile(self, registry: ModelRegistry) -> SiteProfile:
        """Say what the tables hold."""
        counts = np.isfinite(self.train.quality).sum(axis=0)
        models = {
            registry.canonical(model)
            for model, count in zip(self.train.models, counts, strict=True)
            if count
        }
        n_rows = len(self.train.embeddings)
        return SiteProfile(
            self.name,
            self.encoder.id,
            self.encoder.sha256,
            self.encoder.dimension,
            SCHEMA_VERSION,
            tuple(sorted(models)),
            1 << max(n_rows - 1, 0).bit_length(),
        )

    def train_rows(self, columns: tuple[str, ...], registry: ModelRegistry) -> Evaluations:
        """Return the rows to learn from."""
        return align(self.train, columns, registry)

    def held_out_rows(self, columns: tuple[str, ...], registry: ModelRegistry) -> Evaluations:
        """Return the rows that choose between rounds."""
        return align(self.held_out, columns, registry)

    def receive(self, artifact: bytes, signature: bytes | None) -> Verdict:  # noqa: ARG002
        """Judge nothing."""
        return Verdict("candidate", read_manifest(artifact).version, "kept by a simulation")


def align(rows: Evaluations, columns: tuple[str, ...], registry: ModelRegistry) -> Evaluations:
    """Order a table's columns by canonical name; NaN where it has no such model."""
    names = [registry.canonical(model) for model in rows.models]
    quality, cost = np.full((2, len(rows.embeddings), len(columns)), np.nan, np.float32)
    for index, column in enumerate(columns):
        if column in names:
            quality[:, index] = rows.quality[:, names.index(column)]
            cost[:, index] = rows.cost_usd[:, names.index(column)]
    return replace(rows, quality=quality, cost_usd=cost, models=columns)


def simulate(
    sites: Sequence[Site],
    plan: TrainingPlan,
    *,
    faults: Mapping[int, Fault] | None = None,
    checkpoints: Checkpoints | None = None,
    traffic: list[Exchanged] | None = None,
    start: Progress | None = None,
    created_at: datetime = LONG_AGO,
) -> SessionResult:
    """Run one session over these sites; the same plan and sites give the same bits.

    Args:
        sites: Node 1 is the first of them.
        plan: Of the session.
        faults: What befalls the replies of a node.
        checkpoints: Where to go on, and where to keep progress.
        traffic: A list that gets every message.
        start: Where to begin; with the router, where one grows.
        created_at: Date of the router.

    Raises:
        QuorumMissing: Too few sites answered well in some round.
    """
    nodes = {node: build_client_app(site) for node, site in enumerate(sites, start=1)}
    grid = InProcessGrid(nodes, faults or {}, traffic)
    kept = checkpoints or MemoryCheckpoints()
    begun = start or Progress()
    return Session(grid, plan, kept, grid.clock, grid.sleep, begun).run(created_at)
