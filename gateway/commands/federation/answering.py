"""A node's process that answers the coordinator from this gateway's database."""

from federation.client_app import build_client_app
from federation.deployment.flower import Tasks
from federation.deployment.programs import Program
from gateway.commands.database import opened
from gateway.commands.federation.places import account_of
from gateway.commands.federation.running import log_to_stderr
from gateway.commands.federation.site import open_site
from gateway.config import GatewaySettings


def answer(settings: GatewaySettings, program: Program) -> None:
    """Answer message after message, for as long as the SuperNode lives."""
    log_to_stderr(settings)
    with opened(settings) as engine:
        app = build_client_app(open_site(settings, engine), account_of(settings))
        Tasks(program.address, program.secret_file.read_bytes()).serve(app)
