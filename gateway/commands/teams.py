"""`waypost teams`: create, list and change teams."""

import click

from gateway.commands.database import opened
from gateway.commands.options import settings_option
from gateway.config import GatewaySettings
from gateway.keys import KeyStore, TeamInfo

PAGE = 100

text_option = click.option(
    "--log-text/--no-log-text",
    "logs_text",
    default=False,
    help="Keep the text of the team's queries in its log.",
)


@click.group()
def command() -> None:
    """Create and list teams."""


@command.command()
@settings_option
@click.argument("team_id")
@text_option
def create(settings: GatewaySettings, team_id: str, logs_text: bool) -> None:  # noqa: FBT001
    """Create a team."""
    with opened(settings) as engine:
        click.echo(_line(KeyStore(engine).create_team(team_id, logs_text=logs_text)))


@command.command()
@settings_option
@click.argument("team_id")
@text_option
def update(settings: GatewaySettings, team_id: str, logs_text: bool) -> None:  # noqa: FBT001
    """Change whether the team's log keeps the text of queries."""
    with opened(settings) as engine:
        click.echo(_line(KeyStore(engine).update_team(team_id, logs_text=logs_text)))


@command.command("list")
@settings_option
def list_teams(settings: GatewaySettings) -> None:
    """List teams."""
    after = None
    with opened(settings) as engine:
        while teams := KeyStore(engine).teams(after=after, limit=PAGE):
            for team in teams:
                click.echo(_line(team))
            after = teams[-1].id


def _line(team: TeamInfo) -> str:
    return f"{team.id:16} {'text logged' if team.logs_text else 'text not logged'}"
