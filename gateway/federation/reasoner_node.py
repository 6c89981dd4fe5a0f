"""A node's process that also tunes a reasoning model on this gateway's private prompts."""

from collections.abc import Sequence

from sqlalchemy import Engine

from federation.deployment.programs import Program
from federation.errors import PlanRefused
from federation.reasoner.base import Base
from federation.reasoner.prompt_site import PromptSite
from federation.reasoner.prompts import InvalidPrompt, Prompt, parse_prompts
from gateway.artifacts.store import adapter_store
from gateway.evaluation_log.reasoning_prompts import private_prompts
from gateway.federation.paths import states_dir
from gateway.federation.reasoner.bases import open_base
from gateway.federation.router_node import serve
from gateway.problems.calibration import CalibrationError, read_json_lines
from gateway.settings.config import GatewaySettings


def answer(settings: GatewaySettings, program: Program) -> None:
    """Answer message after message, for as long as the SuperNode lives."""
    serve(settings, program, open_prompt_site)


def open_prompt_site(settings: GatewaySettings, engine: Engine) -> PromptSite:
    """Make this gateway the site that tunes."""
    node = settings.federation.node
    store = adapter_store(settings)
    return PromptSite(
        name=str(node.name),
        load=lambda: load(settings),
        collect=lambda: collect(settings, engine),
        least_prompts=node.reasoner.least_prompts,
        folder=states_dir(settings),
        keep=lambda *sent: store.put(*sent).version,
    )


def load(settings: GatewaySettings) -> Base:
    """Bring this node's model into memory."""
    tuning = settings.federation.node.reasoner
    opened = open_base(settings, tuning.model, tuning.device)
    return Base.from_model(opened.identity, opened.model, opened.tokenizer)


def collect(settings: GatewaySettings, engine: Engine) -> Sequence[Prompt]:
    """Read the prompts of the log, of teams that opted in, and those of the file.

    Raises:
        PlanRefused: One of them cannot be used.
    """
    node = settings.federation.node
    try:
        tables = private_prompts(engine, node.teams)
        if node.reasoner.prompts is not None:
            tables += read_json_lines(node.reasoner.prompts)
        return parse_prompts(tables)
    except (CalibrationError, InvalidPrompt) as error:
        raise PlanRefused(f"this site's private prompts cannot be read: {error}") from error
