"""`waypost evaluate`: measure routers on a table, beside what they have to beat."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import click
import numpy as np
import orjson

from gateway.commands.options import skip_incomplete_option, willingness_option
from gateway.commands.train import split_rows
from gateway.problems.datasets import Dataset, read_dataset
from gateway.problems.frontier_pictures import draw_report
from gateway.problems.report_tables import render
from gateway.routing.encoders import load_encoder
from gateway.settings.config import ConfigurationError
from router_models.artifacts.artifact import load, read_manifest
from router_models.artifacts.router import Router
from router_models.errors import ArtifactRejected, InvalidEvaluations, RouterModelsError
from router_models.evaluation.frontier import COVERAGE, covered
from router_models.evaluation.report import Contender, Report, evaluate
from router_models.evaluation.verdict import verdict
from router_models.pricing import Prompts, in_usd, unit_of
from router_models.statistics import model_means
from router_models.training.baselines import all_baselines
from router_models.training.train import train
from router_models.types import Encoder, Evaluations, Float32, Prediction

EncoderName = Literal["auto", "static", "minilm"]

OWN: Final = "kmeans, trained here"


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A router from an artefact and the encoder whose vectors it reads."""

    router: Router
    encoder: Encoder


def open_artifact(file: Path) -> Loaded:
    """Load an artefact with the packaged encoder it names.

    Raises:
        ArtifactRejected: The file is no artefact, or of an encoder that this version lacks.
    """
    content = file.read_bytes()
    wanted = read_manifest(content).encoder_id
    names: tuple[EncoderName, ...] = ("static", "minilm")
    for name in names:
        if wanted.startswith(name):
            encoder = load_encoder(name)
            return Loaded(load(content, encoder), encoder)
    raise ArtifactRejected(f"{file} was trained on encoder {wanted!r}, which is not packaged here")


def common_models(dataset: Dataset, loaded: Sequence[Loaded]) -> Dataset:
    """Keep the models that the table and every router know.

    Raises:
        InvalidEvaluations: There is none.
    """
    pool = [m for m in dataset.models if all(m in one.router.models for one in loaded)]
    if not pool:
        raise InvalidEvaluations("the table and the routers have no model in common")
    return dataset.with_models(pool)


def comparable(dataset: Dataset, split: str) -> tuple[Dataset, list[str]]:
    """Leave out models that answered too few queries for a frontier, and say which.

    Where no query was answered by all of the others, nothing is left out: there is no frontier.
    """
    rows = dataset.evaluations(split)
    full, columns = covered(rows)
    if not len(full):
        return dataset, []
    answered = np.isfinite(rows.quality).mean(axis=0)
    few = [
        f"{model} ({answered[column]:.0%})"
        for column, model in enumerate(rows.models)
        if column not in columns
    ]
    notes = []
    if few:
        notes.append(
            f"models left out because they answered less than {COVERAGE:.0%} of the queries: "
            f"{', '.join(few)}"
        )
    kept = dataset.with_models([rows.models[column] for column in columns])
    queries = len(kept.evaluations(split).quality)
    if len(full) < queries:
        notes.append(
            f"{queries - len(full)} of {queries} queries lack an answer of some model, so only "
            "predictions are measured on them"
        )
    return kept, notes


def predict_for(router: Router, rows: Evaluations) -> Contender:
    """Predict for the models of `rows`, all of which the router knows.

    Raises:
        InvalidEvaluations: The router predicts tokens, and `rows` do not count them.
    """
    estimator = router.serving_estimator
    columns = [estimator.models.index(model) for model in rows.models]
    found = estimator.predict(rows.embeddings)
    kept = Prediction(found.quality[:, columns], found.cost_usd[:, columns])
    return Contender.of(in_usd(kept, router.unit, Prompts.of(rows)))


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What routers are compared with.

    Attributes:
        contenders: Trained on the table's own train rows, by name.
        means: What to expect of each model without looking at a query.
        notes: What is missing, and why.
    """

    contenders: dict[str, Contender]
    means: Float32
    notes: list[str]


def compared(dataset: Dataset, split: str, seed: int, *, with_own: bool) -> Compared:
    """Train on the table's own train rows what the routers are compared with."""
    rows = dataset.evaluations(split)
    if "train" not in dataset.splits or split == "train":
        note = "no train rows besides those measured, so no router is trained for comparison"
        return Compared({}, model_means(rows)[0], [note])
    learned, held_out = split_rows(dataset, "train", "train" if split == "val" else "val")
    found = dict(all_baselines(learned, held_out, rows, seed))
    if with_own:
        own = train(learned, held_out, "kmeans", seed).predict(rows.embeddings)
        own = in_usd(own, unit_of(learned), Prompts.of(rows))
        found = {OWN: Contender.of(own), **found}
    notes = [] if rows.texts else ["the table has no text, so TF-IDF + ridge is left out"]
    return Compared(found, model_means(learned)[0], notes)


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Router to measure; may be repeated. Without one, K-means is trained on the train rows.",
)
@click.option("--split", default="test", help="Split of the table to measure on.")
@click.option(
    "--encoder",
    type=click.Choice(["auto", "static", "minilm"]),
    default="auto",
    help="Encoder of the router that is trained here; an artefact uses its own.",
)
@click.option("--seed", type=int, default=0, help="The same seed gives the same figures.")
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Bootstrap draws for the intervals; 0 leaves them out, and with them every verdict.",
)
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option(
    "--drop-hidden-reasoning",
    is_flag=True,
    help="Leave out models whose costs are known to be wrong.",
)
@skip_incomplete_option
@willingness_option
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("frontier.png"),
    help="PNG file to write the plots of cost, quality and calibration to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    *,
    data: Path,
    artifacts: tuple[Path, ...],
    split: str,
    encoder: EncoderName,
    seed: int,
    bootstrap: int,
    models: tuple[str, ...],
    drop_hidden_reasoning: bool,
    skip_incomplete: bool,
    willingness_to_pay: float | None,
    picture: Path,
    as_json: bool,
) -> None:
    """Measure routers on DATA, a parquet or CSV table of evaluations."""
    try:
        loaded = [open_artifact(file) for file in artifacts]
        dataset = read_dataset(data, skip_incomplete=skip_incomplete)
        dataset = dataset.without_hidden_reasoning() if drop_hidden_reasoning else dataset
        dataset = common_models(dataset.with_models(models) if models else dataset, loaded)
        own = loaded[0].encoder if loaded and encoder == "auto" else load_encoder(encoder)
        dataset, left_out = comparable(dataset.embedded(own), split)
        others = compared(dataset, split, seed, with_own=not loaded)
        routers = {
            one.router.version: predict_for(
                one.router, dataset.embedded(one.encoder).evaluations(split)
            )
            for one in loaded
        } or {name: others.contenders.pop(name) for name in (OWN,) if name in others.contenders}
        report = evaluate(
            routers,
            others.contenders,
            dataset.evaluations(split),
            others.means,
            draws=bootstrap,
            rng=np.random.default_rng(seed),
            willingness_to_pay_usd=willingness_to_pay,
        )
    except (ConfigurationError, RouterModelsError) as error:
        raise click.ClickException(str(error)) from error
    draw_report(f"{data.name}: {split}", report).savefig(picture, dpi=120)
    notes = [*dataset.notes, *left_out, *others.notes]
    if as_json:
        click.echo(as_bytes(report, notes, tuple(routers)))
    else:
        _print(report, notes, tuple(routers))
    click.echo(f"wrote {picture}", err=as_json)


def as_bytes(report: Report, notes: Sequence[str], routers: Sequence[str]) -> bytes:
    """Render a report as JSON; null stands for what is not finite, as a saving never reached."""
    whole = {
        "object": "waypost.evaluation",
        "notes": notes,
        "verdict": {router: list(verdict(report, router)) for router in routers},
        **asdict(report),
    }
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2)


def _print(report: Report, notes: Sequence[str], routers: Sequence[str]) -> None:
    for note in notes:
        click.echo(note)
    queries = report.queries if report.frontier is None else report.frontier.queries
    click.echo(f"{queries} queries, {len(report.models)} models")
    for line in render(report, routers):
        click.echo(line)
