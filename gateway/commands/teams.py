"""`waypost teams`: create, list, change and delete teams."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from gateway.access.keys import KeyStore, TeamInfo
from gateway.commands.options import (
    Consent,
    changing,
    destroys,
    json_option,
    print_json,
    settings_option,
)
from gateway.deleting import count_deleted, delete_team
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened

PAGE = 100


def choices_of_team(function: Any) -> Any:
    """Give a command the choices that a team makes; None where it leaves one as it is."""
    for option in (
        click.option(
            "--train-reasoner/--no-train-reasoner",
            "trains_reasoner",
            default=None,
            help="Keep prompts and answers, to verify them and to tune a reasoning model on them. "
            "Turning it off erases what was kept.",
        ),
        click.option(
            "--log-text/--no-log-text",
            "logs_text",
            default=None,
            help="Keep the text of the team's queries in its log.",
        ),
        click.option(
            "--judge/--no-judge",
            "is_judged",
            default=None,
            help="Have a share of the answers graded by the models of `grading.judge`, which then "
            "read prompts and answers. Nothing of these is kept.",
        ),
        click.option(
            "--store-responses/--no-store-responses",
            "stores_responses",
            default=None,
            help="Keep requests and answers of the Responses API for "
            "`evaluation_log.stored_responses_days`, so that a request can go on from an earlier "
            "answer. Turning it off erases what was kept.",
        ),
        click.option(
            "--data-rule",
            help="Data rule of the settings that all requests of the team are held to; an empty "
            "name ends it.",
        ),
    ):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Create, list, change and delete teams."""


@command.command()
@settings_option
@click.argument("team_id")
@choices_of_team
def create(
    settings: GatewaySettings, team_id: str, data_rule: str | None, **choices: bool | None
) -> None:
    """Create a team; what it does not choose to keep is not kept."""
    made = {name: bool(choice) for name, choice in choices.items()}
    with changing(settings) as engine:
        click.echo(_line(KeyStore(engine).create_team(team_id, data_rule=data_rule, **made)))


@command.command()
@settings_option
@click.argument("team_id")
@choices_of_team
@destroys
def update(
    settings: GatewaySettings,
    team_id: str,
    data_rule: str | None,
    consent: Consent,
    **choices: bool | None,
) -> None:
    """Change what the team chose; a choice that is not named stays as it is.

    Asks where it erases what was kept.
    """
    with changing(settings) as engine:
        store = KeyStore(engine)
        erased = store.count_erased(team_id, choices)
        if not erased and consent.is_dry_run:
            click.echo("nothing would be erased")
        elif not erased or consent.to(f"erase {_counts(erased)} of the team {team_id}"):
            click.echo(_line(store.update_team(team_id, data_rule=data_rule, **choices)))


@command.command()
@settings_option
@click.argument("team_id")
@destroys
def delete(settings: GatewaySettings, team_id: str, consent: Consent) -> None:
    """Delete a team with its keys and budgets, and erase the text that was kept of it.

    Its turns stay in the log, without text. Its id cannot be taken again.
    """
    with changing(settings) as engine:
        if consent.to(f"delete the team {team_id}: {_counts(count_deleted(engine, team_id))}"):
            click.echo(f"deleted the team {team_id}: {_counts(delete_team(engine, team_id))}")


@command.command("list")
@settings_option
@json_option
def list_teams(settings: GatewaySettings, *, as_json: bool) -> None:
    """List teams."""
    with opened(settings) as engine:
        teams = tuple(_every_team(KeyStore(engine)))
    if as_json:
        print_json(teams)
        return
    for team in teams:
        click.echo(_line(team))


def _every_team(store: KeyStore) -> Iterator[TeamInfo]:
    after = None
    while teams := store.teams(after=after, limit=PAGE):
        yield from teams
        after = teams[-1].id


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counted.items())


def _line(team: TeamInfo) -> str:
    text = "text logged" if team.logs_text else "text not logged"
    chosen = {
        "trains a reasoner": team.trains_reasoner,
        "judged": team.is_judged,
        "responses stored": team.stores_responses,
    }
    said = [text, *(name for name in chosen if chosen[name])]
    if team.data_rule is not None:
        said.append(f"held to {team.data_rule}")
    return f"{team.id:16} {', '.join(said)}"
