"""The coordinator's process that conducts trainings; it runs beside Flower's SuperLink."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from flwr.serverapp import Grid

from federation.deployment.coordinator import Conductor, keep_admitting
from federation.deployment.flower import Operator, Tasks
from federation.deployment.programs import Program
from federation.deployment.sessions import FileCheckpoints
from federation.learning.settings import KINDS
from federation.protocol import EncoderName, TrainingPlan
from federation.server_app import Session
from gateway.commands.federation.places import certificates_of, sessions_of
from gateway.commands.federation.running import log_to_stderr
from gateway.config import GatewaySettings
from gateway.encoders import load_encoder
from router_models.artifact import read_manifest
from router_models.registry import ModelRegistry

ADMIT_POLL_S: Final = 0.5
CHECKPOINT: Final = "checkpoint"
ROUTER: Final = "router.safetensors"


def conduct(settings: GatewaySettings, program: Program) -> None:
    """Begin trainings as they are due or asked for, for ever."""
    log_to_stderr(settings)
    coordinator, plan = settings.federation.coordinator, plan_of(settings)
    authority = program.loopback.authority.read_bytes()
    keep_admitting(
        Operator(program.address, authority), certificates_of(settings).public_keys, ADMIT_POLL_S
    )

    def train(grid: Grid, folder: Path) -> Mapping[str, Any]:
        checkpoints = FileCheckpoints(folder / CHECKPOINT)
        result = Session(grid, plan, checkpoints).run(datetime.now(UTC))
        (folder / ROUTER).write_bytes(result.artifact)
        return {"version": read_manifest(result.artifact).version, **asdict(result.report)}

    hours = coordinator.every_hours
    Conductor(
        operator=Operator(program.address, authority),
        tasks=Tasks(program.address, program.secret_file.read_bytes(), authority),
        sessions=sessions_of(settings),
        train=train,
        every=None if hours is None else timedelta(hours=hours),
        clock=lambda: datetime.now(UTC),
    ).run()


def plan_of(settings: GatewaySettings) -> TrainingPlan:
    """Put into a plan what the settings say of a training."""
    coordinator, encoder = settings.federation.coordinator, load_encoder(settings.routing.encoder)
    return TrainingPlan(
        kind=coordinator.kind,
        settings=KINDS[coordinator.kind](**coordinator.training),
        encoder=EncoderName(encoder.id, encoder.sha256, encoder.dimension),
        registry=ModelRegistry(coordinator.models),
        least_rows=coordinator.least_rows,
        quorum=coordinator.quorum,
        timeout_s=coordinator.round_timeout_s,
        rule=coordinator.rule,
        seed=coordinator.seed,
    )
