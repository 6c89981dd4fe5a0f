"""`waypost federation train` and `status`: ask for a training, see how trainings went."""

import time
from datetime import UTC, datetime

import click

from federation.deployment.sessions import SessionRecord
from gateway.commands.federation.places import sessions_of
from gateway.commands.options import settings_option
from gateway.config import GatewaySettings

POLL_S = 0.5


@click.command("train")
@settings_option
@click.option("--no-wait", is_flag=True, help="Ask, and leave.")
def train_now(*, settings: GatewaySettings, no_wait: bool) -> None:
    """Ask the coordinator that shares this data directory for a training now."""
    store = sessions_of(settings)
    session = store.ask("operator", datetime.now(UTC))
    click.echo(f"asked for session {session.id}")
    while not no_wait and session.is_open:
        time.sleep(POLL_S)
        session = store.read(session.id)
    if session.state == "failed":
        raise click.ClickException(f"session {session.id} failed: {session.reason}")
    if not no_wait:
        _describe(session)


@click.command("status")
@settings_option
@click.option("--last", type=click.IntRange(1), default=5, help="How many sessions to show.")
def show_status(settings: GatewaySettings, last: int) -> None:
    """Show how the latest trainings of this coordinator went, the newest last."""
    sessions = sessions_of(settings).list_all()
    if not sessions:
        click.echo("no session yet; `waypost federation train` asks for one")
    for session in sessions[-last:]:
        _describe(session)


def _describe(session: SessionRecord) -> None:
    reason = f": {session.reason}" if session.reason else ""
    click.echo(f"{session.id}  {session.state}  asked by {session.asked_by}{reason}")
    for name, value in session.report.items():
        click.echo(f"  {name}: {value}")
