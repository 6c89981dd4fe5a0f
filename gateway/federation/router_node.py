"""A node's process that answers the coordinator from this gateway's database."""

from collections.abc import Callable

from sqlalchemy import Engine

from federation.deployment.flower import TaskWorker
from federation.deployment.programs import Program
from federation.node.client_app import build_client_app
from federation.reasoner.client import ReasonerSite
from gateway.federation.members import open_identity
from gateway.federation.paths import account_of
from gateway.federation.process import log_to_stderr
from gateway.federation.site import open_site
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened


def answer(settings: GatewaySettings, program: Program) -> None:
    """Answer message after message, for as long as the SuperNode lives."""
    serve(settings, program, lambda *_: None)


def serve(
    settings: GatewaySettings,
    program: Program,
    open_reasoner: Callable[[GatewaySettings, Engine], ReasonerSite | None],
) -> None:
    """Do that, with a site that tunes a reasoning model where there is one."""
    log_to_stderr(settings)
    with opened(settings) as engine:
        site, reasoner = open_site(settings, engine), open_reasoner(settings, engine)
        app = build_client_app(site, account_of(settings), reasoner, open_identity(settings))
        TaskWorker(program.address, program.secret_file.read_bytes()).serve(app)
