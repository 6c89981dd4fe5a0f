"""`waypost calibrate`: onboard a model by asking it prompts whose answers can be verified."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

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
    Chooser,
    Course,
    Progress,
    calibrate,
    oracle_quality,
    parse_prompts,
    read_json_lines,
    summarise,
)
from gateway.problems.choosing import ByPrior, EveryPrompt
from gateway.problems.datasets import split_of
from gateway.problems.gateway_asker import GatewayAsker, Price, Spending, read_prices
from gateway.routing.encoders import load_encoder
from gateway.routing.prior import known_names, open_prior
from gateway.settings.config import GatewaySettings
from router_models.day_one.shipped import PoolModel

PACKAGED_PROMPTS: Final = DATA / "prompts.jsonl"
SAVE_EVERY_S: Final = 1.0
DEFAULT_MAX_USD: Final = 0.1
TIMEOUT_S: Final = 600.0
TYPES: Final = {str: pa.string(), int: pa.int64(), float: pa.float64()}
SCHEMA: Final = pa.schema([(f.name, TYPES[f.type]) for f in fields(CalibrationRow)])  # type: ignore[index]


@click.command()
@settings_option
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Model to ask; repeat it for several. By default all that the key may use.",
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
    "--every-prompt",
    is_flag=True,
    help="Ask all prompts in their order, without choosing those that tell most.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Prompts asked at the same time.",
)
@click.option(
    "--max-usd",
    type=click.FloatRange(min=0),
    default=DEFAULT_MAX_USD,
    show_default=True,
    help="Most USD that the answers in --out may cost; no call is made that might exceed it.",
)
@click.option(
    "--max-cost-usd",
    type=click.FloatRange(min=0),
    hidden=True,
    help="Old name of `--max-usd`.",
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
    every_prompt: bool,
    concurrency: int,
    max_usd: float,
    max_cost_usd: float | None,
) -> None:
    """Ask models verifiable prompts through a running gateway, and let it learn from the answers.

    Prompts are chosen by what they tell of each model, and grades go into the gateway's log.
    Stopped or failed, the same command goes on where it was.
    """
    if max_cost_usd is not None:
        click.echo("--max-cost-usd is called --max-usd now", err=True)
        max_usd = max_cost_usd
    address = url or f"http://{settings.server.host}:{settings.server.port}/v1"
    try:
        prompts = parse_prompts(read_prompts(prompts_file))[:limit]
        known = read_rows(out)
        check_texts(prompts, known)
        make = partial(
            _courses, prompts=prompts, known=known, settings=settings, every_prompt=every_prompt
        )
        run = partial(_run, address, key, models, make, known, out, concurrency, max_usd)
        outcome = asyncio.run(run())
    except CalibrationError as error:
        raise click.ClickException(str(error)) from error
    _finish([*known, *outcome.progress.rows], outcome, out)


class Outcome(NamedTuple):
    """What came of a calibration."""

    courses: Sequence[Course]
    progress: Progress
    spent_usd: float
    untold: int


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


def check_texts(prompts: Sequence[CalibrationPrompt], known: Sequence[CalibrationRow]) -> None:
    """Refuse prompts that an earlier run asked otherwise.

    Raises:
        CalibrationError: A known row has another text for the same query id.
    """
    texts = {row.query_id: row.text for row in known}
    for prompt in prompts:
        if texts.get(prompt.query_id, prompt.text) != prompt.text:
            raise CalibrationError(
                f"query {prompt.query_id!r} has another text in --out; choose another file"
            )


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


def report_known(courses: Sequence[Course]) -> None:
    """Print what is believed of each model now: of all prompts, most of which were not asked."""
    lines = [
        (course.model, len(course.answers), course.chooser.known(course.answers))
        for course in courses
        if course.answers and isinstance(course.chooser, ByPrior)
    ]
    if not lines:
        return
    width = max(len(model) for model, _, _ in lines)
    click.echo(f"{'model':{width}}  answers  expected quality  tokens")
    for model, answers, known in sorted(lines, key=lambda line: -line[2].quality):
        click.echo(
            f"{model:{width}}  {answers:7d}  {known.quality:.3f} +- {known.stderr:.3f}  "
            f"{known.tokens:6.0f}"
        )


def _courses(
    prices: Mapping[str, Price | None],
    *,
    prompts: Sequence[CalibrationPrompt],
    known: Sequence[CalibrationRow],
    settings: GatewaySettings,
    every_prompt: bool,
) -> list[Course]:
    """Lay out what each model is asked, with what it answered before."""
    places = {prompt.query_id: place for place, prompt in enumerate(prompts)}
    choosers: dict[str, Chooser] = {model: EveryPrompt(len(prompts)) for model in prices}
    if not every_prompt:
        choosers |= _choosers(prices, prompts, settings)
    courses = []
    for model in prices:
        answers = {
            places[row.query_id]: row
            for row in known
            if row.model == model and row.query_id in places
        }
        courses.append(Course(model, prompts, choosers[model], answers))
    return courses


def _choosers(
    prices: Mapping[str, Price | None],
    prompts: Sequence[CalibrationPrompt],
    settings: GatewaySettings,
) -> dict[str, Chooser]:
    encoder = load_encoder(settings.routing.encoder)
    opened = open_prior(encoder)
    if opened is None:
        click.echo(f"no prior ships for encoder {encoder.id}: all prompts are asked", err=True)
        return {}
    embeddings = encoder.encode([prompt.text for prompt in prompts])
    return {
        model: ByPrior(
            opened.prior,
            PoolModel(model, _names(model, settings), price or Price(0.0, 0.0)),
            embeddings,
        )
        for model, price in prices.items()
    }


def _names(model: str, settings: GatewaySettings) -> tuple[str, ...]:
    """Return the names by which the prior may know a model that these settings may host."""
    hosted = settings.models.get(model)
    upstream = None if hosted is None else hosted.upstream_name
    return known_names(upstream or model, model)


async def _run(
    address: str,
    key: str,
    models: Sequence[str],
    courses_of: Callable[[Mapping[str, Price | None]], list[Course]],
    known: Sequence[CalibrationRow],
    out: Path,
    concurrency: int,
    max_usd: float,
) -> Outcome:
    async with httpx2.AsyncClient(
        base_url=address.rstrip("/") + "/",
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx2.Timeout(TIMEOUT_S, connect=5.0),
    ) as http:
        served = await read_prices(http)
        asked = dict.fromkeys(models) or served
        for model in [model for model in asked if model not in served]:
            click.echo(f"{model}: no such model is served to this key", err=True)
        prices = {model: served[model] for model in asked if model in served}
        if not prices:
            raise CalibrationError("none of these models is served to this key")
        courses = courses_of(prices)
        before_usd = sum(row.cost_usd for course in courses for row in course.answers.values())
        spending = Spending(max_usd, before_usd)
        told = {model: price for model, price in prices.items() if price is not None}
        asker = GatewayAsker(http, time.monotonic, told, spending)
        wanted = sum(course.left() for course in courses)
        click.echo(f"at most {wanted} answers to get, {len(known)} rows in {out}", err=True)
        with click.progressbar(length=wanted, label="asking", show_pos=True) as bar:
            progress = await calibrate(
                asker,
                courses,
                split_of=split_of,
                concurrency=concurrency,
                on_progress=_saving(out, known, bar.update),
            )
        return Outcome(courses, progress, spending.spent_usd, asker.untold)


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


def _finish(rows: Sequence[CalibrationRow], outcome: Outcome, out: Path) -> None:
    progress = outcome.progress
    write_rows(rows, out)
    report([row for course in outcome.courses for row in course.answers.values()])
    report_known(outcome.courses)
    click.echo(f"spent {outcome.spent_usd:.4f} USD on the answers in {out}")
    for model, why in progress.gave_up.items():
        click.echo(f"{model} is asked nothing further: {why}", err=True)
    if progress.over_budget:
        click.echo(
            f"stopped at the cost limit: a further answer of {', '.join(progress.over_budget)} "
            "might exceed it",
            err=True,
        )
    if progress.failures:
        click.echo(
            f"{len(progress.failures)} prompts got no answer; run the same command to ask again. "
            f"The first: {progress.failures[0]}",
            err=True,
        )
    if outcome.untold:
        click.echo(f"{outcome.untold} grades were not taken by the gateway's log", err=True)
    click.echo(f"wrote {len(rows)} rows to {out}; next: waypost learn run")
