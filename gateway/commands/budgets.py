"""`waypost budgets`: define budgets, see what is spent, reset, rebuild, verify, prune."""

from decimal import Decimal, InvalidOperation
from typing import Any, get_args

import click

from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.types import Measure, ScopeKind, Window
from gateway.budgets.definitions import MAX_CAP, BudgetDefinition, BudgetDefinitions
from gateway.budgets.folding import MIN_AGE_DAYS
from gateway.budgets.operations import described
from gateway.budgets.refusals import UNITS
from gateway.budgets.reservation import duration
from gateway.commands.counters import with_counters
from gateway.commands.options import (
    Consent,
    changing,
    destroys,
    json_option,
    print_json,
    settings_option,
)
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened

PAGE = 100


class Dollars(click.ParamType[int]):
    """An amount of USD such as ``10`` or ``0.25``, read exactly, in nano-USD."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse `value`."""
        if isinstance(value, int):
            return value
        try:
            nusd = Decimal(str(value)) * NUSD_PER_USD
        except InvalidOperation:
            self.fail(f"{value!r} is not an amount of USD; write it as 10 or 0.25", param, ctx)
        if not nusd.is_finite() or nusd != int(nusd) or not 0 <= nusd <= MAX_CAP:
            self.fail(
                f"{value!r}: must be 0 to {MAX_CAP // NUSD_PER_USD} USD, at most 9 decimals",
                param,
                ctx,
            )
        return int(nusd)


scope_option = click.option(
    "--scope",
    type=click.Choice(get_args(ScopeKind)),
    help="Kind of the budget's owner.",
)
team_option = click.option("--team", "team_id", help="Id of the team.")
id_option = click.option(
    "--id", "scope_id", help="Id of the key, or the caller's name of the user or conversation."
)


def amount_options(function: Any) -> Any:
    """Give a command one option per measure."""
    for option in (
        click.option("--usd", type=Dollars(), help="Cap in USD."),
        click.option(
            "--tokens", type=click.IntRange(0, MAX_CAP), help="Cap in tokens, prompts and answers."
        ),
        click.option(
            "--output-tokens", type=click.IntRange(0, MAX_CAP), help="Cap in completion tokens."
        ),
        click.option("--requests", type=click.IntRange(0, MAX_CAP), help="Cap in requests."),
        click.option(
            "--concurrent", type=click.IntRange(0, MAX_CAP), help="Cap in requests at a time."
        ),
    ):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Cap what teams, keys, users and conversations may spend."""


@command.command()
@settings_option
@team_option
@click.option("--every-team", is_flag=True, help="Default for all teams.")
@scope_option
@id_option
@amount_options
@click.option(
    "--per",
    "window",
    type=click.Choice(["minute", "hour", "day", "week", "month", "total"]),
    help="Calendar window, UTC; by default total for --usd and --tokens, minute for --requests.",
)
def create(
    settings: GatewaySettings,
    team_id: str | None,
    every_team: bool,  # noqa: FBT001 - click hands flags over by name
    scope: ScopeKind | None,
    scope_id: str | None,
    window: Window | None,
    **amounts: int | None,
) -> None:
    """Create a budget; without --id a default for each key, user, ... of the team."""
    if (team_id is None) != every_team:
        raise click.UsageError("give one of --team TEAM and --every-team")
    measure, cap = _amount(amounts)
    if measure == "concurrent":
        if window is not None:
            raise click.UsageError("--concurrent counts requests in progress now; leave out --per")
        window = "now"
    default: Window = "minute" if measure == "requests" else "total"
    with changing(settings) as engine:
        new = BudgetDefinitions(engine).create(
            team_id=team_id,
            scope=scope or "team",
            scope_id=scope_id,
            measure=measure,
            window=window or default,
            cap=cap,
        )
    click.echo(_line(new))


@command.command("list")
@settings_option
@team_option
@scope_option
@json_option
def list_budgets(
    settings: GatewaySettings, team_id: str | None, scope: ScopeKind | None, *, as_json: bool
) -> None:
    """List budgets."""
    found: list[BudgetDefinition] = []
    with opened(settings) as engine:
        store = BudgetDefinitions(engine)
        after = None
        while page := store.budgets(team_id=team_id, scope=scope, after=after, limit=PAGE):
            found += page
            after = page[-1].id
    if as_json:
        print_json([described(budget) for budget in found])
        return
    for budget in found:
        click.echo(_line(budget))


@command.command()
@settings_option
@click.argument("budget_id")
@json_option
def show(settings: GatewaySettings, budget_id: str, *, as_json: bool) -> None:
    """Show a budget."""
    with opened(settings) as engine:
        found = BudgetDefinitions(engine).budget(budget_id)
    if as_json:
        print_json(described(found))
        return
    click.echo(_line(found))
    click.echo(f"created {found.created_at:%Y-%m-%d %H:%M} UTC, ", nl=False)
    click.echo(f"changed {found.updated_at:%Y-%m-%d %H:%M} UTC")


@command.command("raise")
@settings_option
@click.argument("budget_id")
@amount_options
def raise_budget(settings: GatewaySettings, budget_id: str, **amounts: int | None) -> None:
    """Set a new cap, higher or lower; what was spent stays spent."""
    measure, cap = _amount(amounts)
    with changing(settings) as engine:
        store = BudgetDefinitions(engine)
        known = store.budget(budget_id).measure
        if known != measure:
            option = "usd" if known == "nusd" else known
            raise click.UsageError(f"this budget caps {known}: give --{option}")
        click.echo(_line(store.set_cap(budget_id, cap)))


@command.command()
@settings_option
@click.argument("budget_id")
@destroys
def delete(settings: GatewaySettings, budget_id: str, consent: Consent) -> None:
    """Lift a budget."""
    with changing(settings) as engine:
        store = BudgetDefinitions(engine)
        if consent.to(f"delete {_line(store.budget(budget_id))}"):
            click.echo(f"deleted {_line(store.delete(budget_id))}")


@command.command()
@settings_option
@click.argument("budget_id")
@team_option
@id_option
@click.option(
    "--limit",
    type=click.IntRange(1, 500),
    default=20,
    show_default=True,
    help="Most lines to show.",
)
@json_option
def usage(
    settings: GatewaySettings,
    budget_id: str,
    team_id: str | None,
    scope_id: str | None,
    limit: int,
    *,
    as_json: bool,
) -> None:
    """Show what is spent, held and left; of a default, for those who spent most."""
    found = with_counters(
        settings,
        lambda counters: counters.usage(budget_id, team_id=team_id, scope_id=scope_id, limit=limit),
    )
    if as_json:
        print_json(found)
        return
    for standing in found:
        click.echo(_standing(standing))
    if not found:
        click.echo("nothing was spent in this window")


@command.command()
@settings_option
@click.argument("budget_id")
@team_option
@id_option
@destroys
def reset(
    settings: GatewaySettings,
    budget_id: str,
    team_id: str | None,
    scope_id: str | None,
    consent: Consent,
) -> None:
    """Set what was spent in this window to 0."""

    def reset_counter(*, dry_run: bool) -> str:
        return _standing(
            with_counters(
                settings,
                lambda counters: counters.reset(
                    budget_id, team_id=team_id, scope_id=scope_id, dry_run=dry_run
                ),
                is_change=not dry_run,
            )
        )

    if consent.to(f"set to 0 what was spent by {reset_counter(dry_run=True)}"):
        click.echo(reset_counter(dry_run=False))


@command.command()
@settings_option
def rebuild(settings: GatewaySettings) -> None:
    """Set live counters to what the journal says, as after Redis lost its data."""
    done = with_counters(settings, lambda counters: counters.rebuild(), is_change=True)
    click.echo(
        f"{done['counters']} counters set, {done['expired_leases']} expired reservations charged"
    )


@command.command()
@settings_option
def verify(settings: GatewaySettings) -> None:
    """Compare live counters with the journal; fails where they differ."""
    found = with_counters(settings, lambda counters: counters.verify())["differences"]
    for each in found:
        who = _who(each["team_id"], each["scope"], each["scope_id"])
        counted = _shown(each["counted"], each["measure"])
        journaled = _shown(each["journaled"], each["measure"])
        click.echo(f"{who} {each['window']}: counted {counted}, journal {journaled}")
    if found:
        raise click.ClickException(
            f"{len(found)} counters differ; run this again after a second, "
            "and if they still differ, `waypost budgets rebuild`"
        )
    click.echo("counters and journal agree")


@command.command()
@settings_option
@click.option(
    "--older-than-days",
    type=click.IntRange(min=MIN_AGE_DAYS),
    required=True,
    help="Age of the rows.",
)
@destroys
def prune(settings: GatewaySettings, older_than_days: int, consent: Consent) -> None:
    """Fold old journal rows into one opening row per total; sums stay exact."""

    def fold_rows(*, dry_run: bool) -> int:
        done = with_counters(
            settings,
            lambda counters: counters.prune(older_than_days, dry_run=dry_run),
            is_change=not dry_run,
        )
        return int(done["folded_rows"])

    if consent.to(f"fold {fold_rows(dry_run=True)} rows of the journal"):
        click.echo(f"{fold_rows(dry_run=False)} rows folded")


def _amount(amounts: dict[str, int | None]) -> tuple[Measure, int]:
    """Read which one measure is capped, and at what."""
    given = {name: cap for name, cap in amounts.items() if cap is not None}
    if len(given) != 1:
        raise click.UsageError(
            "give one of --usd, --tokens, --output-tokens, --requests, --concurrent"
        )
    ((name, cap),) = given.items()
    measures: dict[str, Measure] = {
        "usd": "nusd",
        "tokens": "tokens",
        "output_tokens": "output",
        "requests": "requests",
        "concurrent": "concurrent",
    }
    return measures[name], cap


def _line(budget: BudgetDefinition) -> str:
    team = "every team" if budget.team_id is None else budget.team_id
    scope_id = budget.scope_id
    if scope_id is None and budget.scope != "team":
        scope_id = f"each {budget.scope}"
    who = _who(team, budget.scope, scope_id)
    return f"{budget.id}  {who:40} {_shown(budget.cap, budget.measure)} {_per(budget.window)}"


def _standing(standing: dict[str, Any]) -> str:
    measure = standing["measure"]
    who = _who(standing["team_id"], standing["scope"], standing["scope_id"])
    spent, held, cap = (_shown(standing[name], measure) for name in ("spent", "held", "cap"))
    resets = standing["resets_in_s"]
    until = "" if resets is None else f", resets in {duration(resets)}"
    return f"{who:40} spent {spent}, held {held}, of {cap} {_per(standing['window'])}{until}"


def _who(team: str, scope: str, scope_id: str | None) -> str:
    if scope_id is None:
        return team
    return f"{team} / {scope_id if scope_id.startswith('each ') else f'{scope} {scope_id}'}"


def _per(window: str) -> str:
    return {"now": "at a time", "total": "in total"}.get(window, f"per {window}")


def _shown(amount: int, measure: str) -> str:
    if measure != "nusd":
        return f"{amount} {UNITS.get(measure, measure)}"
    return f"{Decimal(amount) / NUSD_PER_USD:f} USD"
