"""The plan of a training, from settings; without torch, so that a coordinator starts at once."""

from dataclasses import replace

from federation.learning.settings import KINDS
from federation.privacy.settings import NoiseSettings
from federation.protocol.protocol import EncoderName, TrainingPlan
from gateway.routing.encoders import load_encoder
from gateway.settings.config import GatewaySettings
from router_models.artifacts.registry import ModelRegistry


def plan_of(settings: GatewaySettings) -> TrainingPlan:
    """Put into a plan what the settings say of a training; how much noise is calibrated later.

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
    return replace(plan, noise=noise, has_guard=False)
