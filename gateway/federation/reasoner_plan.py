"""The plan of tuning a reasoning model, from settings; without torch, as `planning` is."""

from federation.errors import FederationError
from federation.reasoner.plan import BaseName, ReasonerPlan
from federation.reasoner.prompts import InvalidPrompt, Prompt, parse_prompts
from federation.reasoner.settings import ReasonerSettings
from gateway.problems.calibration import CalibrationError, read_json_lines
from gateway.settings.config import GatewaySettings


def check_tuning(settings: GatewaySettings) -> None:
    """Find out before a coordinator starts whether it could have anything tuned.

    Raises:
        FederationError: A public prompt cannot be used, or there is none where some are needed.
        TypeError: A setting of the training is unknown.
        ValueError: One is out of range.
    """
    public = read_public(settings)
    if tuning_settings_of(settings).public and not public:
        raise FederationError(
            "reasoner.public_prompts: required unless training has public = false"
        )


def tuning_settings_of(settings: GatewaySettings) -> ReasonerSettings:
    """Read how to tune.

    Raises:
        TypeError: A setting is unknown.
        ValueError: One is out of range.
    """
    return ReasonerSettings(**settings.federation.coordinator.reasoner.training)


def reasoner_plan_of(settings: GatewaySettings, session: str, base: BaseName) -> ReasonerPlan:
    """Put into a plan what the settings say of tuning."""
    asked = settings.federation.coordinator
    return ReasonerPlan(
        session=session,
        base=base,
        settings=tuning_settings_of(settings),
        rounds=asked.reasoner.rounds,
        quorum=asked.quorum,
        timeout_s=asked.reasoner.phase_timeout_s,
        largest_share=asked.largest_share,
        seed=asked.seed,
    )


def read_public(settings: GatewaySettings) -> list[Prompt]:
    """Read the public prompts.

    Raises:
        FederationError: One of them cannot be used.
    """
    file = settings.federation.coordinator.reasoner.public_prompts
    try:
        return [] if file is None else parse_prompts(read_json_lines(file))
    except (CalibrationError, InvalidPrompt) as error:
        raise FederationError(f"reasoner.public_prompts: {error}") from error
