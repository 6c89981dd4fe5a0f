"""`waypost calibrate`: onboard a model by asking it prompts whose answers can be verified."""

import asyncio
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import click
import httpx2
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from gateway.commands.options import settings_option
from gateway.embedded.routers import DATA
from gateway.problems.calibration import (
    CalibrationError,
    CalibrationPrompt,
    CalibrationRow,
    GatewayAsker,
    Progress,
    calibrate,
    oracle_quality,
    parse_prompts,
    read_json_lines,
    summarise,
)
from gateway.problems.datasets import split_of
from gateway.settings.config import GatewaySettings

PACKAGED_PROMPTS: Final = DATA / "prompts.jsonl"
SAVE_EVERY_S: Final = 10.0
TIMEOUT_S: Final = 600.0
TYPES: Final = {str: pa.string(), int: pa.int64(), float: pa.float64()}
SCHEMA: Final = pa.schema([(f.name, TYPES[f.type]) for f in fields(CalibrationRow)])  # type: ignore[index]


@click.command()
@settings_option
@click.option(
    "--model", "models", multiple=True, required=True, help="Model to ask; repeat it for several."
)
@click.option(
    "--prompts",
    "prompts_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=PACKAGED_PROMPTS,
    help="JSON lines or parquet; by default the prompts that the embedded models were given.",
)
@click.option("--url", help="The gateway's /v1, by default at the address of the settings.")
@click.option(
    "--key", envvar="WAYPOST_API_KEY", required=True, help="API key; $WAYPOST_API_KEY by default."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("evaluations.parquet"),
    help="Parquet or CSV; rows already in it are kept, and their prompts not asked again.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Ask only this number of prompts, from the first."
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Prompts asked at the same time.",
)
@click.option(
    "--max-cost-usd", type=click.FloatRange(min=0), help="Stop asking when this much is spent."
)
def command(
    *,
    settings: GatewaySettings,
    models: tuple[str, ...],
    prompts_file: Path,
    url: str | None,
    key: str,
    out: Path,
    limit: int | None,
    concurrency: int,
    max_cost_usd: float | None,
) -> None:
    """Ask models verifiable prompts through a running gateway, for `waypost train` to learn from.

    Stopped or failed, the same command goes on where it was.
    """
    address = url or f"http://{settings.server.host}:{settings.server.port}/v1"
    try:
        prompts = parse_prompts(read_prompts(prompts_file))[:limit]
        known = read_rows(out)
        pairs = missing_pairs(models, prompts, known)
        click.echo(f"{len(pairs)} answers to get, {len(known)} rows in {out}", err=True)
        with click.progressbar(length=len(pairs), label="asking", show_pos=True) as bar:
            show = _saving(out, known, bar.update)
            progress = _run(address, key, pairs, concurrency, max_cost_usd, show)
    except CalibrationError as error:
        raise click.ClickException(str(error)) from error
    asked = {prompt.query_id for prompt in prompts}
    _finish([*known, *progress.rows], progress, out, models=models, asked=asked)


def read_prompts(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Read a prompt per line or row, each with the words that tell where it stands.

    Raises:
        CalibrationError: The file cannot be read.
    """
    if file.suffix != ".parquet":
        return read_json_lines(file)
    try:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise CalibrationError(f"{file}: cannot be read as parquet: {error}") from error
    return [(f"{file}, row {number}", row) for number, row in enumerate(rows)]


def read_rows(file: Path) -> list[CalibrationRow]:
    """Read the rows of an earlier run; none if there is no file.

    Raises:
        CalibrationError: The file is something else.
    """
    if file.suffix not in {".parquet", ".csv"}:
        raise CalibrationError(f"{file}: --out must end in .parquet or .csv")
    if not file.exists():
        return []
    try:
        if file.suffix == ".csv":
            convert = pyarrow.csv.ConvertOptions(
                column_types=SCHEMA, strings_can_be_null=False, include_columns=SCHEMA.names
            )
            parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
            table = pyarrow.csv.read_csv(file, parse_options=parse, convert_options=convert)
        else:
            table = pyarrow.parquet.read_table(file, columns=SCHEMA.names)
        return [CalibrationRow(**row) for row in table.cast(SCHEMA).to_pylist()]
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CalibrationError(
            f"{file} exists and is no file of an earlier calibration ({error}); choose another "
            "--out"
        ) from error


def write_rows(rows: Sequence[CalibrationRow], file: Path) -> None:
    """Replace `file` by these rows, wholly or not at all."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".csv":
        pyarrow.csv.write_csv(table, unfinished)
    else:
        pyarrow.parquet.write_table(table, unfinished, compression="zstd")
    unfinished.replace(file)


def missing_pairs(
    models: Sequence[str], prompts: Sequence[CalibrationPrompt], known: Sequence[CalibrationRow]
) -> list[tuple[str, CalibrationPrompt]]:
    """List what is still to be asked, all models of a prompt together.

    Raises:
        CalibrationError: A known row has another text for the same query id.
    """
    texts = {row.query_id: row.text for row in known}
    for prompt in prompts:
        if texts.get(prompt.query_id, prompt.text) != prompt.text:
            raise CalibrationError(
                f"query {prompt.query_id!r} has another text in --out; choose another file"
            )
    done = {(row.model, row.query_id) for row in known}
    wanted = dict.fromkeys(models)
    return [(m, p) for p in prompts for m in wanted if (m, p.query_id) not in done]


def report(rows: Sequence[CalibrationRow]) -> None:
    """Print quality, cost and latency of each model, and what routing could gain."""
    if not rows:
        return
    summaries = summarise(rows)
    width = max(len(summary.model) for summary in summaries)
    click.echo(f"{'model':{width}}  answers  quality  95% interval     USD/1,000 queries  median s")
    for summary in summaries:
        low, high = summary.interval
        click.echo(
            f"{summary.model:{width}}  {summary.answers:7d}  {summary.quality:7.3f}  "
            f"{low:.3f} to {high:.3f}  {summary.cost_usd_per_1000:18.4f}  "
            f"{summary.median_latency_s:8.2f}"
        )
    best = oracle_quality(rows)
    if len(summaries) > 1 and best is not None:
        click.echo(f"best model for each query: {best:.3f}, the most that routing can reach")


def _run(
    address: str,
    key: str,
    pairs: Sequence[tuple[str, CalibrationPrompt]],
    concurrency: int,
    max_cost_usd: float | None,
    show: Callable[[Progress], None],
) -> Progress:
    async def ask_all() -> Progress:
        async with httpx2.AsyncClient(
            base_url=address.rstrip("/") + "/",
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(TIMEOUT_S, connect=5.0),
        ) as http:
            return await calibrate(
                GatewayAsker(http, time.monotonic),
                pairs,
                split_of=split_of,
                concurrency=concurrency,
                max_cost_usd=max_cost_usd,
                on_progress=show,
            )

    return asyncio.run(ask_all())


def _saving(
    out: Path, known: Sequence[CalibrationRow], update: Callable[[int], None]
) -> Callable[[Progress], None]:
    """Show progress, and save now and then so that little is lost by a kill."""
    saved_at = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal saved_at
        update(1)
        if time.monotonic() - saved_at >= SAVE_EVERY_S:
            write_rows([*known, *progress.rows], out)
            saved_at = time.monotonic()

    return show


def _finish(
    rows: Sequence[CalibrationRow],
    progress: Progress,
    out: Path,
    *,
    models: Sequence[str],
    asked: Collection[str],
) -> None:
    write_rows(rows, out)
    report([row for row in rows if row.query_id in asked and row.model in models])
    if progress.is_over_budget:
        click.echo(
            f"stopped at the cost limit with {progress.spent_usd:.4f} USD spent and "
            f"{progress.total - progress.done} answers missing",
            err=True,
        )
    if progress.failures:
        click.echo(
            f"{len(progress.failures)} prompts got no answer; run the same command to ask again. "
            f"The first: {progress.failures[0]}",
            err=True,
        )
    click.echo(f"wrote {len(rows)} rows to {out}; next: waypost train {out}")
