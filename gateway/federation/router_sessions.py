"""The coordinator's process that conducts trainings; it runs beside Flower's SuperLink."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from flwr.serverapp import Grid

from federation.coordinator.growing import Parent
from federation.coordinator.session import Session
from federation.coordinator.strategies import Progress
from federation.coordinator.strategy_table import with_calibrated_noise
from federation.deployment.coordinator import SessionScheduler, keep_registering
from federation.deployment.flower import SuperLinkClient, TaskWorker
from federation.deployment.programs import Program
from federation.deployment.sessions import FileCheckpoints, SessionRecord, SessionStore
from federation.errors import FederationError, GrowthRefused
from federation.protocol.joining import GROWTHS
from federation.protocol.protocol import TrainingPlan
from federation.protocol.report import SessionReport
from gateway.artifacts.trust import ANYBODY, Trust
from gateway.federation.paths import ROUTER, certificates_of, sessions_of
from gateway.federation.plan import plan_of
from gateway.federation.process import log_to_stderr
from gateway.settings.config import GatewaySettings
from router_models.artifacts.artifact import load, read_manifest
from router_models.errors import ArtifactRejected

ADMIT_POLL_S: Final = 0.5
CHECKPOINT: Final = "checkpoint"


Tune = Callable[[Grid, SessionRecord, SessionStore], Mapping[str, Any]]
"""Has a reasoning model tuned; returns a report."""


def conduct(settings: GatewaySettings, program: Program) -> None:
    """Begin trainings as they are due or asked for, for ever."""
    conduct_with(settings, program, refuse_tuning)


def conduct_with(settings: GatewaySettings, program: Program, tune: Tune) -> None:
    """Do that, with `tune` for those of a reasoning model."""
    log_to_stderr(settings)
    coordinator, plan = settings.federation.coordinator, calibrated_plan_of(settings)
    authority = program.loopback.authority.read_bytes()
    keep_registering(
        SuperLinkClient(program.address, authority),
        certificates_of(settings).public_keys,
        ADMIT_POLL_S,
    )

    store, trust = sessions_of(settings), Trust.of(settings.artifacts)

    def train(grid: Grid, session: SessionRecord) -> Mapping[str, Any]:
        if session.task == "reasoner":
            return tune(grid, session, store)
        return train_router(grid, session, store, plan, trust)

    hours = coordinator.every_hours
    SessionScheduler(
        operator=SuperLinkClient(program.address, authority),
        tasks=TaskWorker(program.address, program.secret_file.read_bytes(), authority),
        sessions=store,
        train=train,
        every=None if hours is None else timedelta(hours=hours),
        clock=lambda: datetime.now(UTC),
    ).run()


def calibrated_plan_of(settings: GatewaySettings) -> TrainingPlan:
    """Put into a plan what the settings say, with as much noise as its epsilon takes."""
    coordinator, plan = settings.federation.coordinator, plan_of(settings)
    if coordinator.epsilon is None:
        return plan
    return with_calibrated_noise(plan, coordinator.epsilon, coordinator.delta)


def refuse_tuning(*_: object) -> Mapping[str, Any]:
    """Say that there is no model to tune.

    Raises:
        FederationError: Always.
    """
    raise FederationError("federation.coordinator.reasoner.model: set the model to tune")


def train_router(
    grid: Grid,
    session: SessionRecord,
    store: SessionStore,
    plan: TrainingPlan,
    trust: Trust = ANYBODY,
) -> Mapping[str, Any]:
    """Train anew, or let something join the latest router.

    The router bears the date on which it was asked for, so that it is the same one after a restart.

    Raises:
        FederationError: It failed, for good: what sites sent for it is not kept.
    """
    folder, start = store.folder_of(session), Progress()
    checkpoints = FileCheckpoints(folder / CHECKPOINT)
    try:
        if session.grow is not None:
            parent = parent_in(store, plan)
            plan, start = parent.plan(plan, GROWTHS[session.grow]), parent.progress()
        on_report = partial(note, store, session)
        result = Session(
            grid,
            plan,
            checkpoints,
            start=start,
            on_report=on_report,
            sign=lambda artifact: trust.sign(read_manifest(artifact).version, artifact),
        ).run(session.asked_at)
    except FederationError:
        checkpoints.clear()
        raise
    (folder / ROUTER).write_bytes(result.artifact)
    return {
        "version": read_manifest(result.artifact).version,
        "joined": result.plan.joining,
        "sites": sorted(result.progress.sites),
        **asdict(result.report),
    }


def note(store: SessionStore, session: SessionRecord, report: SessionReport) -> None:
    """Keep what happened so far, for whoever asks before the session ends or after it failed."""
    store.note(session, asdict(report))


def parent_in(store: SessionStore, plan: TrainingPlan) -> Parent:
    """Find the router that was published last.

    Raises:
        GrowthRefused: There is none, or it reads another encoder's vectors.
    """
    found = store.latest(ROUTER)
    if found is None:
        raise GrowthRefused(
            "there is no router yet to join; run `waypost federation train` without --grow"
        )
    session, artifact = found
    try:
        return Parent(load(artifact, plan.encoder), session.report["sites"])
    except ArtifactRejected as error:
        raise GrowthRefused(
            f"models or sites cannot join the router of session {session.id}: {error}"
        ) from error
