"""`waypost federation train`: ask for a training now."""

import time
from datetime import UTC, datetime

import click

from gateway.commands.options import settings_option
from gateway.federation.paths import sessions_of
from gateway.federation.trainings import GROWTHS, TASKS, Task, ask, describe
from gateway.settings.config import GatewaySettings

POLL_S = 0.5


@click.command("train")
@settings_option
@click.option("--no-wait", is_flag=True, help="Request the training and do not wait for its end.")
@click.option(
    "--grow",
    type=click.Choice(GROWTHS),
    help="Let new models or new sites join the latest router instead of training anew; "
    "any: whichever there are.",
)
@click.option(
    "--task",
    type=click.Choice(TASKS),
    default="router",
    help="What to train: a router, or adapters of the reasoning model in the settings.",
)
def command(*, settings: GatewaySettings, no_wait: bool, grow: str | None, task: Task) -> None:
    """Ask the coordinator that shares this data directory for a training now."""
    if grow is not None and task != "router":
        raise click.UsageError("--grow: works with routers only, not with --task reasoner")
    store = sessions_of(settings)
    session = ask(settings, datetime.now(UTC), grow, task)
    click.echo(f"asked for session {session.id}")
    while not no_wait and session.is_open:
        time.sleep(POLL_S)
        session = store.read(session.id)
    if session.state == "failed":
        raise click.ClickException(f"session {session.id} failed: {session.reason}")
    if not no_wait:
        click.echo("\n".join(describe(session)))
