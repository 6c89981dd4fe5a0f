"""The coordinator's process that conducts trainings; it runs beside Flower's SuperLink."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from flwr.serverapp import Grid

from federation.deployment.coordinator import Conductor, keep_admitting
from federation.deployment.flower import Operator, Tasks
from federation.deployment.programs import Program
from federation.deployment.sessions import FileCheckpoints
from federation.learning.settings import KINDS
from federation.privacy.settings import NoiseSettings
from federation.protocol import EncoderName, TrainingPlan
from federation.server_app import Session
from federation.strategy_table import calibrated
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
    """Put into a plan what the settings say of a training.

    Raises:
        ValueError: The settings contradict each other.
    """
    asked, encoder = settings.federation.coordinator, load_encoder(settings.routing.encoder)
    plan = TrainingPlan(
        kind=asked.kind,
        settings=KINDS[asked.kind](**asked.training),
        encoder=EncoderName(encoder.id, encoder.sha256, encoder.dimension),
        registry=ModelRegistry(asked.models),
        models=tuple(sorted(asked.models)) if asked.knows_all_models else (),
        least_rows=asked.least_rows,
        quorum=asked.quorum,
        timeout_s=asked.round_timeout_s,
        rule=asked.rule,
        norm_bound=asked.norm_bound,
        largest_share=asked.largest_share,
        dearest_usd=asked.dearest_usd,
        secure_sum=asked.secure_sum,
        seed=asked.seed,
    )
    if asked.epsilon is None:
        return plan
    noise = NoiseSettings(noise_multiplier=1.0, dearest_usd=asked.dearest_usd_by_model)
    return calibrated(replace(plan, noise=noise, has_guard=False), asked.epsilon, asked.delta)
