"""`waypost train`: learn a router from a table of evaluations and write its artefact."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import click
import numpy as np

from gateway.commands.options import settings_option, skip_incomplete_option
from gateway.evaluation_log.log_export import DatabaseRows, Selection
from gateway.evaluation_log.log_parquet import write_parquet
from gateway.learning.training import TrainedRouter, train_router
from gateway.problems.datasets import Dataset, read_dataset
from gateway.routing.encoders import load_encoder
from gateway.settings.config import ConfigurationError, GatewaySettings
from gateway.storage.engines import opened
from router_models.artifacts.artifact import read_manifest
from router_models.errors import InvalidEvaluations, RouterModelsError
from router_models.statistics import select
from router_models.training.settings import AUTO, KINDS
from router_models.types import Encoder, Evaluations

CARVED: Final = 8
"""One train row in so many becomes validation where the table has no such split."""


def split_rows(dataset: Dataset, train_on: str, tune_on: str) -> tuple[Evaluations, Evaluations]:
    """Return train and validation rows; carve validation out of train where there is none.

    Raises:
        InvalidEvaluations: The table has no row to train on, or none to hold out.
    """
    whole = dataset.evaluations(train_on)
    if tune_on in dataset.splits and tune_on != train_on:
        return whole, dataset.evaluations(tune_on)
    return carve(whole)


def carve(evaluations: Evaluations) -> tuple[Evaluations, Evaluations]:
    """Set one row in eight apart by a hash of its embedding, so that the choice never moves.

    Raises:
        InvalidEvaluations: All rows are the same query.
    """
    digests = [hashlib.sha256(row.tobytes()).digest() for row in evaluations.embeddings]
    distinct = set(digests)
    if len(distinct) < 2:
        raise InvalidEvaluations(
            f"all {len(digests)} rows are one query: there is no other to choose settings by"
        )
    chosen = {digest for digest in distinct if digest[0] % CARVED == 0}
    if not chosen or chosen == distinct:
        chosen = {min(distinct)}
    held_out = np.array([digest in chosen for digest in digests], bool)
    rows, held = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return select(evaluations, rows), select(evaluations, held)


def read_log(settings: GatewaySettings, encoder: Encoder) -> Dataset:
    """Read the graded turns of the evaluation log that `encoder` embedded.

    Raises:
        InvalidEvaluations: There is none, or nothing can be learned from them.
    """
    with TemporaryDirectory() as folder, opened(settings) as engine:
        file = Path(folder) / "log.parquet"
        selection = Selection(encoder_id=encoder.id)
        if not write_parquet(DatabaseRows(engine).iter_evaluations(selection), file):
            raise InvalidEvaluations(
                f"the evaluation log has no graded turn read by {encoder.id}: send grades to "
                "/v1/feedback, or run `waypost calibrate`"
            )
        return read_dataset(file)


@click.command()
@settings_option
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option(
    "--estimator",
    "kind",
    type=click.Choice([AUTO, *KINDS]),
    default=AUTO,
    show_default=True,
    help="Kind of router to train; `auto` compares K-means, ridge and their average.",
)
@click.option(
    "--encoder",
    type=click.Choice(["static", "minilm", "auto"]),
    default="static",
    help="Encoder that the gateway uses: its routing.encoder.",
)
@click.option("--seed", type=int, default=0, help="The same seed gives the same router.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write the router to."
)
@click.option("--train-split", default="train", help="Split of the table to train on.")
@click.option("--tune-split", default="val", help="Split by which hyperparameters are chosen.")
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option(
    "--drop-hidden-reasoning",
    is_flag=True,
    help="Leave out models whose recorded costs lack their thinking tokens.",
)
@skip_incomplete_option
def command(
    *,
    settings: GatewaySettings,
    data: Path | None,
    kind: str,
    encoder: Literal["auto", "static", "minilm"],
    seed: int,
    out: Path | None,
    train_split: str,
    tune_split: str,
    models: tuple[str, ...],
    drop_hidden_reasoning: bool,
    skip_incomplete: bool,
) -> None:
    """Train a router from DATA, a parquet or CSV table of evaluations, or else from the log."""
    try:
        reader = load_encoder(encoder)
        dataset = (
            read_log(settings, reader)
            if data is None
            else read_dataset(data, skip_incomplete=skip_incomplete)
        )
        dataset = dataset.without_hidden_reasoning() if drop_hidden_reasoning else dataset
        dataset = dataset.with_models(models) if models else dataset
        dataset = dataset.embedded(reader)
        rows, held_out = split_rows(dataset, train_split, tune_split)
        trained = train_router(
            rows,
            held_out,
            kind,
            seed,
            reader,
            reads_requests=dataset.encoder_id != reader.id,
            now=datetime.now(UTC),
        )
    except (ConfigurationError, RouterModelsError) as error:
        raise click.ClickException(str(error)) from error
    for note in dataset.notes:
        click.echo(note)
    path = out or Path(f"{read_manifest(trained.content).version}.safetensors")
    path.write_bytes(trained.content)
    _report(trained, path)


def _report(trained: TrainedRouter, path: Path) -> None:
    training, provenance = trained.training, trained.provenance
    click.echo(
        f"learned from {provenance['train_queries']} queries and {provenance['models']} models "
        f"({provenance['train_evaluations']} evaluations), read by {trained.encoder.id}"
    )
    if len(training["settings"]) > 1:
        click.echo("the average of:")
    for kind, settings in training["settings"].items():
        click.echo(f"{kind}: {', '.join(f'{name} {value}' for name, value in settings.items())}")
    low, high = training["validation_gain_interval"]
    click.echo(
        "gain over the best single model on rows that it had not seen: "
        f"{training['validation_gain']:+.4f} [{low:+.4f}, {high:+.4f}] (quality, mean over what "
        "callers may pay)"
    )
    if "compared" in training:
        gains = ", ".join(f"{kind} {gain:+.4f}" for kind, gain in training["compared"].items())
        click.echo(f"compared by that gain: {gains}")
    if "validation" in training:
        figures = training["validation"]
        click.echo(
            f"validation quality {figures['quality_first']:.3f} at "
            f"{figures['cost_first_usd'] * 1000:.3f} USD per 1,000 queries; best single model "
            f"{training['best_single_quality']:.3f} at "
            f"{training['best_single_cost_usd'] * 1000:.3f}; "
            f"99 % of its quality costs {figures['saved_at_99']:.0%} less"
        )
    if low > 0:
        click.echo(f"wrote {path}")
    else:
        click.echo(
            f"wrote {path}, but these rows do not show that it is better than the best single "
            "model: more graded answers would tell"
        )
