"""The coordinator's process where it also has a reasoning model tuned."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import click
from flwr.serverapp import Grid

from federation.deployment.programs import Program
from federation.deployment.sessions import FileCheckpoints, SessionRecord, SessionStore
from federation.errors import FederationError
from federation.reasoner.base import Base
from federation.reasoner.plan import BaseName
from federation.reasoner.session import ReasonerResult, ReasonerSession
from gateway.artifacts.trust import Trust
from gateway.federation.paths import ADAPTER
from gateway.federation.reasoner.bases import open_base
from gateway.federation.reasoner_plan import read_public, reasoner_plan_of, tuning_settings_of
from gateway.federation.router_sessions import CHECKPOINT, conduct_with, note
from gateway.settings.config import GatewaySettings
from router_models.artifacts import adapter
from router_models.types import Arrays

BYTES_PER_WEIGHT = 4


def conduct(settings: GatewaySettings, program: Program) -> None:
    """Begin trainings of both kinds as they are due or asked for, for ever."""
    conduct_with(settings, program, lambda *asked: tune(settings, *asked))


def tune(
    settings: GatewaySettings, grid: Grid, session: SessionRecord, store: SessionStore
) -> Mapping[str, Any]:
    """Have the nodes tune the model; adapters bear the date on which they were asked for.

    Raises:
        FederationError: It failed, for good: what sites sent for it is not kept.
    """
    folder = store.folder_of(session)
    checkpoints = FileCheckpoints(folder / CHECKPOINT)
    public, trust = read_public(settings), Trust.of(settings.artifacts)
    base, initial, n_weights = begin(settings)
    plan = reasoner_plan_of(settings, session.id, base)
    try:
        result = ReasonerSession(
            grid,
            plan,
            public,
            initial,
            checkpoints,
            on_report=partial(note, store, session),
            sign=lambda artifact: trust.sign(adapter.load(artifact).version, artifact),
        ).run(session.asked_at)
    except FederationError:
        checkpoints.clear()
        raise
    (folder / ADAPTER).write_bytes(result.artifact)
    return {**session_figures(result), "full_model_bytes": n_weights * BYTES_PER_WEIGHT}


def begin(settings: GatewaySettings) -> tuple[BaseName, Arrays, int]:
    """Name the model, draw the first adapters, and count its weights; the model itself may go.

    Raises:
        FederationError: It cannot be loaded.
    """
    asked = settings.federation.coordinator
    try:
        opened = open_base(settings, asked.reasoner.model, asked.reasoner.device)
    except click.ClickException as error:
        raise FederationError(f"federation.coordinator.reasoner.model: {error.message}") from error
    n_weights = opened.model.num_parameters()
    base = Base.from_model(opened.identity, opened.model, opened.tokenizer)
    return base.name, base.initial(tuning_settings_of(settings), asked.seed), n_weights


def session_figures(result: ReasonerResult) -> dict[str, Any]:
    """Return what an operator wants to know of a session."""
    return {
        "version": adapter.load(result.artifact).version,
        "sites": sorted(result.progress.sites),
        "figures": {
            str(round_): {site: [step._asdict() for step in steps] for site, steps in own.items()}
            for round_, own in result.progress.figures.items()
        },
        **asdict(result.report),
    }
