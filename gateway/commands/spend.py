"""`waypost spend`: what was spent, by whom and on what."""

import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import orjson

from gateway.budgets.definitions import scope_digest
from gateway.commands.options import TIME, in_utc, settings_option
from gateway.evaluation_log.spend import EVERY, SUMS, By, Spending, parse_by, spend, total, usd
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened

SHOWN = ("requests", "refused", "prompt_tokens", "completion_tokens")
"""Of the sums, in a table; all are in JSON and CSV."""


class Names(click.ParamType[tuple[By, ...]]):
    """Names of what makes a row, between commas."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[By, ...]:
        """Parse `value`."""
        try:
            return value if isinstance(value, tuple) else parse_by(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@settings_option
@click.option(
    "--by",
    type=Names(),
    default=("team",),
    metavar="NAMES",
    help=f"What makes a row, of {', '.join(EVERY)}, between commas; by default team.",
)
@click.option("--since", type=TIME, help="Only what began at this time or later, in UTC.")
@click.option("--until", type=TIME, help="Only what began before this time, in UTC.")
@click.option("--team", help="Only this team's.")
@click.option("--key", help="Only that of the key with this id.")
@click.option("--user", help="Only that of this end user, as callers call it; with --team.")
@click.option("--model", help="Only what this model answered.")
@click.option("--task", help="Only what callers called by this task.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "is_csv", is_flag=True, help="Print CSV.")
def command(
    settings: GatewaySettings,
    by: tuple[By, ...],
    since: datetime | None,
    until: datetime | None,
    is_json: bool,  # noqa: FBT001 - click hands flags over by name
    is_csv: bool,  # noqa: FBT001 - likewise
    **only: str | None,
) -> None:
    """Show what was spent; sums are exact, and days are those of UTC."""
    if is_json and is_csv:
        raise click.UsageError("give one of --json and --csv")
    if only["user"] is not None:
        if only["team"] is None:
            raise click.UsageError("--user: users are named within a team; give --team too")
        only["user"] = scope_digest(only["team"], "user", only["user"])
    where: dict[By, str] = {name: value for name in EVERY if (value := only.get(name)) is not None}
    with opened(settings) as engine:
        rows = spend(engine, Spending(by, in_utc(since), in_utc(until), where))
    rows.sort(key=lambda row: (row.get("day", ""), -row["cost_nusd"]))
    if is_json:
        told = {"data": [_with_usd(row) for row in rows], "total": _with_usd(total(rows))}
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    elif is_csv:
        writer = csv.DictWriter(sys.stdout, (*by, *SUMS, "cost_usd"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_with_usd(row) for row in rows)
    else:
        click.echo(_table(by, rows))


def _with_usd(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "cost_usd": usd(row["cost_nusd"])}


def _table(by: Sequence[By], rows: Sequence[Mapping[str, Any]]) -> str:
    names = [[row[name] or "-" for name in by] for row in rows]
    names = [list(by), *names, ["total", *("" for _ in by[1:])]]
    figures = [[*(f"{row[name]}" for name in SHOWN), usd(row["cost_nusd"])] for row in rows]
    sums = total(rows)
    figures = [
        [*(name.replace("_", " ") for name in SHOWN), "USD"],
        *figures,
        [*(f"{sums[name]}" for name in SHOWN), usd(sums["cost_nusd"])],
    ]
    left = [max(len(line[place]) for line in names) for place in range(len(by))]
    right = [max(len(line[place]) for line in figures) for place in range(len(SHOWN) + 1)]
    return "\n".join(
        "  ".join(
            [
                *(f"{text:{width}}" for text, width in zip(named, left, strict=True)),
                *(f"{text:>{width}}" for text, width in zip(counted, right, strict=True)),
            ]
        )
        for named, counted in zip(names, figures, strict=True)
    )
