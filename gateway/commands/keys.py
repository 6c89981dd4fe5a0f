"""`waypost keys`: create, list, change, revoke and rotate virtual keys."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from gateway.access.keys import KeyInfo, KeyStore
from gateway.commands.options import (
    Consent,
    changing,
    destroys,
    json_option,
    print_json,
    settings_option,
)
from gateway.embedded.variants import embedded_models
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened

PAGE = 100
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[timedelta]):
    """A time span such as ``90d``, ``12h``, ``30m`` or ``10s``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Parse `value`."""
        match = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; write it as 90d, 12h, 30m or 10s", param, ctx)
        return timedelta(seconds=int(match[1]) * UNITS_S[match[2]])


model_option = click.option(
    "--model",
    "models",
    multiple=True,
    help="Model that the key may use; repeat it for several. All by default.",
)


rule_option = click.option(
    "--data-rule", help="Data rule of the settings that all requests of the key are held to."
)


@click.group()
def command() -> None:
    """Create, list and revoke virtual keys."""


@command.command()
@settings_option
@click.option("--team", default="default", show_default=True, help="Id of the team.")
@click.option("--name", default="", help="Name that says what the key is for.")
@model_option
@click.option("--profile", help="Routing profile used where a request names none.")
@rule_option
@click.option(
    "--expires-in", type=Duration(), help="Lifetime of the key, such as 90d; unlimited by default."
)
def create(
    settings: GatewaySettings,
    team: str,
    name: str,
    models: tuple[str, ...],
    profile: str | None,
    data_rule: str | None,
    expires_in: timedelta | None,
) -> None:
    """Create a key and print it; it cannot be shown again."""
    _warn_of_unknown(settings, models, profile, data_rule)
    with changing(settings) as engine:
        new = KeyStore(engine).create_key(
            team,
            name,
            allowed_models=models or None,
            profile=profile,
            data_rule=data_rule,
            expires_at=None if expires_in is None else datetime.now(UTC) + expires_in,
        )
    click.echo(new.secret.get_secret_value())


@command.command("list")
@settings_option
@click.option("--team", help="Only this team's keys.")
@json_option
def list_keys(settings: GatewaySettings, team: str | None, *, as_json: bool) -> None:
    """List keys without their secrets."""
    with opened(settings) as engine:
        keys = tuple(_every_key(KeyStore(engine), team))
    if as_json:
        print_json([_to_json(key) for key in keys])
        return
    click.echo("id            team             state    last used         name")
    for key in keys:
        click.echo(_line(key))


@command.command()
@settings_option
@click.argument("key_id")
@json_option
def show(settings: GatewaySettings, key_id: str, *, as_json: bool) -> None:
    """Show what a key may do, without its secret."""
    with opened(settings) as engine:
        shown = _to_json(KeyStore(engine).key(key_id))
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        said = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{name:21} {'-' if said in (None, '') else said}")


@command.command()
@settings_option
@click.argument("key_id")
@model_option
@click.option("--all-models", is_flag=True, help="Let the key use all models.")
@click.option("--profile", help="Routing profile used where a request names none.")
@rule_option
@click.option("--no-data-rule", is_flag=True, help="Hold the key to no data rule of its own.")
@click.option("--expires-in", type=Duration(), help="New lifetime from now, such as 90d.")
def update(
    settings: GatewaySettings,
    key_id: str,
    models: tuple[str, ...],
    all_models: bool,  # noqa: FBT001 - click hands flags over by name
    profile: str | None,
    data_rule: str | None,
    no_data_rule: bool,  # noqa: FBT001
    expires_in: timedelta | None,
) -> None:
    """Change what a key may do, or when it expires."""
    _warn_of_unknown(settings, models, profile, data_rule)
    changes: dict[str, Any] = {}
    if models or all_models:
        changes["allowed_models"] = None if all_models else sorted(set(models))
    if profile is not None:
        changes["profile"] = profile
    if data_rule is not None or no_data_rule:
        changes["data_rule"] = None if no_data_rule else data_rule
    if expires_in is not None:
        changes["expires_at"] = datetime.now(UTC) + expires_in
    with changing(settings) as engine:
        click.echo(_line(KeyStore(engine).update_key(key_id, **changes)))


@command.command()
@settings_option
@click.argument("key_id")
@destroys
def revoke(settings: GatewaySettings, key_id: str, consent: Consent) -> None:
    """Revoke a key for good."""
    with changing(settings) as engine:
        store = KeyStore(engine)
        if consent.to(f"revoke the key {_named(store.key(key_id))}"):
            click.echo(_line(store.revoke_key(key_id)))


@command.command()
@settings_option
@click.argument("key_id")
@click.option(
    "--overlap",
    type=Duration(),
    default="0s",
    help="How long the old secret stays valid, such as 12h.",
)
@destroys
def rotate(settings: GatewaySettings, key_id: str, overlap: timedelta, consent: Consent) -> None:
    """Give a key a new secret and print it; asks where the old one ends at once."""
    with changing(settings) as engine:
        store = KeyStore(engine)
        key = store.key(key_id)
        is_asked = not overlap or consent.is_dry_run
        until = "at once" if not overlap else f"after {overlap}"
        if not is_asked or consent.to(f"end {until} the present secret of the key {_named(key)}"):
            new = store.rotate_key(key_id, overlap=overlap)
            click.echo(new.secret.get_secret_value())


def _warn_of_unknown(
    settings: GatewaySettings, models: tuple[str, ...], profile: str | None, rule: str | None
) -> None:
    """Say which names the settings do not have; they are kept, as they may be added later.

    Without models in the settings, which there are is known to a running gateway alone.
    """
    all_profiles = set(settings.all_profiles)
    embedded = embedded_models(settings.embedded.context_tokens)
    served = {"auto", *all_profiles, *settings.models, *embedded}
    profiles = () if profile is None else (profile,)
    rules = () if rule is None else (rule,)
    for kind, names, known in (
        ("model", models if settings.models else (), served),
        ("profile", profiles, all_profiles),
        ("data rule", rules, set(settings.data_rules)),
    ):
        for name in sorted(set(names) - known):
            listed = ", ".join(sorted(known))
            click.echo(f"warning: there is no {kind} {name!r} yet; known: {listed}", err=True)


def _every_key(store: KeyStore, team: str | None) -> Iterator[KeyInfo]:
    after = None
    while keys := store.keys(team_id=team, after=after, limit=PAGE):
        yield from keys
        after = keys[-1].id


def _to_json(key: KeyInfo) -> dict[str, Any]:
    return {"state": _state(key), **asdict(key)}


def _line(key: KeyInfo) -> str:
    used = _used(key).removesuffix(" UTC")
    return f"{key.id:13} {key.team_id:16} {_state(key):8} {used:17} {key.name}"


def _named(key: KeyInfo) -> str:
    name = f" {key.name!r}" if key.name else ""
    return f"{key.id}{name} of the team {key.team_id}, {_state(key)}, last used: {_used(key)}"


def _used(key: KeyInfo) -> str:
    return "never" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M} UTC"


def _state(key: KeyInfo) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        return "expired"
    return "active"
