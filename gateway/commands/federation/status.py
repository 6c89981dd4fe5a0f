"""`waypost federation status`: see how trainings went."""

import click

from gateway.commands.options import json_option, print_json, settings_option
from gateway.federation.paths import sessions_of
from gateway.federation.trainings import describe
from gateway.settings.config import GatewaySettings


@click.command("status")
@settings_option
@click.option("--last", type=click.IntRange(1), default=5, help="How many sessions to show.")
@json_option
def command(settings: GatewaySettings, last: int, *, as_json: bool) -> None:
    """Show how the latest trainings of this coordinator went, the newest last."""
    sessions = sessions_of(settings).list_all()
    if as_json:
        print_json(sessions[-last:])
        return
    if not sessions:
        click.echo("no session yet; `waypost federation train` requests one")
    for session in sessions[-last:]:
        click.echo("\n".join(describe(session)))
