"""`waypost import`: evaluations that people already have, as the table that routers learn from."""

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson

from gateway.commands.options import settings_option
from gateway.imports.choices import Scale, parse_scale
from gateway.imports.mapped_tables import Columns, parse_columns
from gateway.imports.models import Models, parse_price
from gateway.imports.records import InvalidImport
from gateway.imports.table import ImportedRow, as_json, import_rows, lines_of, write_rows
from gateway.imports.tools import find
from gateway.pool.catalogue import build_models
from gateway.settings.config import ConfigurationError, GatewaySettings

SUFFIXES = (".parquet", ".csv")


@click.command()
@settings_option
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("evaluations.parquet"),
    show_default=True,
    help="File to write, .parquet or .csv; replaced if it exists.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Metric, scorer or filter whose value is the grade; once for each task.",
)
@click.option(
    "--scale",
    metavar="WORST:BEST",
    help="Grades of the worst and the best answer, such as 1:10; 0:1 by default.",
)
@click.option(
    "--map",
    "map_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="TOML file: [models], names in the files = names in the pool; [columns] of a table.",
)
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="MODEL=IN,OUT",
    help="Price of a model in USD per million tokens; may be repeated.",
)
@click.option("--skip-unpriced", is_flag=True, help="Leave out models that have no price.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option("--json", "is_json", is_flag=True, help="Print the report as JSON.")
def command(
    *,
    settings: GatewaySettings,
    paths: tuple[Path, ...],
    out: Path,
    metrics: tuple[str, ...],
    scale: str | None,
    map_file: Path | None,
    prices: tuple[str, ...],
    skip_unpriced: bool,
    dry_run: bool,
    is_json: bool,
) -> None:
    """Turn other tools' results at PATHS, files or folders, into a table of evaluations."""
    if out.suffix not in SUFFIXES:
        raise click.BadParameter("the name must end in .parquet or .csv", param_hint="--out")
    try:
        given = dict(parse_price(text) for text in prices)
        mapped, columns = ({}, None) if map_file is None else read_map(map_file)
        models = Models(build_models(settings), mapped, given, datetime.now(UTC))
        grades = Scale() if scale is None else parse_scale(scale)
        rows, report = import_rows(
            find(paths, columns), models, metrics, grades, skip_unpriced=skip_unpriced
        )
    except (ConfigurationError, InvalidImport) as error:
        raise click.ClickException(str(error)) from error
    if is_json:
        click.echo(orjson.dumps(as_json(report), option=orjson.OPT_INDENT_2))
    else:
        for line in lines_of(report):
            click.echo(line)
    if not rows:
        raise click.ClickException("no graded answer is left, so nothing is written")
    if dry_run:
        click.echo("nothing is written (--dry-run)", err=is_json)
        return
    _write(rows, out)
    found = f"{report.rows} rows, {report.queries} queries, {len(report.models)} models"
    click.echo(f"wrote {out}: {found}", err=is_json)


def read_map(file: Path) -> tuple[Mapping[str, str], Columns | None]:
    """Read the tables `[models]` and `[columns]` of a file.

    Raises:
        InvalidImport: The file is no TOML, or has something else in it.
    """
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidImport(f"{file}: cannot be read as TOML: {error}") from error
    models: Mapping[str, str] = tables.pop("models", {})
    columns = tables.pop("columns", None)
    is_map = isinstance(models, dict) and all(
        isinstance(name, str) and name for name in models.values()
    )
    if tables or not is_map or not isinstance(columns, dict | None):
        raise InvalidImport(
            f"{file}: must hold no more than [models], with lines such as "
            '"openai/gpt-4o" = "large", and [columns]'
        )
    return models, None if columns is None else parse_columns(columns, f"{file}, [columns]")


def _write(rows: list[ImportedRow], out: Path) -> None:
    partial = out.with_name(f"{out.name}.partial")
    try:
        try:
            write_rows(rows, partial, is_csv=out.suffix == ".csv")
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise click.ClickException(f"{out}: cannot be written: {error.strerror}") from error
