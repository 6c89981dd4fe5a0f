"""`waypost evaluate`: measure routers against the best single model, oracle and random mixes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import click
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from gateway.commands.train import split_rows
from gateway.problems.datasets import Dataset, read_dataset
from gateway.routing.encoders import load_encoder
from gateway.settings.config import ConfigurationError
from router_models.artifacts.artifact import load, read_manifest
from router_models.artifacts.router import Router
from router_models.errors import ArtifactRejected, InvalidEvaluations, RouterModelsError
from router_models.evaluation.frontier import (
    Judge,
    Outcomes,
    bootstrap_weights,
    complete,
    envelope,
    hull,
    interval,
    replicate,
    route,
)
from router_models.training.train import train
from router_models.types import Encoder, Estimator, Prediction

EncoderName = Literal["auto", "static", "minilm"]

COLORS: Final = ("#0b6e99", "#d9622b", "#5b8c3a", "#8a4f9e", "#c2a01e", "#7a5c45")
INK: Final = "#333333"


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


def predict_for(estimator: Estimator, dataset: Dataset, split: str) -> Outcomes:
    """Route the rows of `split` that every model answered, among the table's models."""
    truth = complete(dataset.evaluations(split))
    columns = [estimator.models.index(model) for model in truth.models]
    found = estimator.predict(truth.embeddings)
    return route(Prediction(found.quality[:, columns], found.cost_usd[:, columns]), truth)


def baselines(
    dataset: Dataset, split: str, seed: int, kinds: Sequence[str]
) -> Iterator[tuple[str, Outcomes]]:
    """Train on the table's own train rows what the routers are compared with."""
    if "train" not in dataset.splits or split == "train":
        click.echo("no train rows besides those measured, so no router is trained for comparison")
        return
    rows, held_out = split_rows(dataset, "train", "train" if split == "val" else "val")
    for kind in kinds:
        yield (
            f"{kind}, trained here",
            predict_for(train(rows, held_out, kind, seed), dataset, split),
        )


def table(judge: Judge, routers: Mapping[str, Outcomes], draws: int, seed: int) -> str:
    """Render the figures, one router a line; 95 % intervals by bootstrap over queries."""
    rng = np.random.default_rng(seed)
    weights = bootstrap_weights(judge.single_models.quality.shape[1], draws, rng)
    best = judge.best_single()
    single = Outcomes(judge.single_models.quality[[best]], judge.single_models.cost_usd[[best]])
    entries = {"best single": single, "oracle": judge.oracle, "random mix": judge.mix(), **routers}
    lines = [_line("", ["quality", "$/1,000", "AUC own", "saved", "at 99 %", "nAIQ", "AUC common"])]
    for name, outcomes in entries.items():
        figures = judge.figures(outcomes)
        cells = [
            f"{figures.quality_first:.4f}",
            f"{figures.cost_first_usd * 1000:.3f}",
            f"{figures.own_range_auc:.4f}",
            f"{figures.saved:.0%}",
            f"{figures.saved_at_99:.0%}",
            f"{figures.naiq:.3f}",
            f"{figures.common_auc:.4f}",
        ]
        if outcomes is single:
            # The common range ends where the best model's cost begins: there is no area.
            cells[2:] = ["-"] * 5
        elif draws:
            drawn = replicate(judge, outcomes, weights)["common_auc"]
            bounds = interval(figures.common_auc, drawn)
            cells[-1] += f" [{bounds.low:.3f}, {bounds.high:.3f}]"
        lines.append(_line(name, cells))
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str]) -> str:
    *narrow, last = cells
    return f"{name[:32]:32} " + " ".join(f"{cell:>8}" for cell in narrow) + f"  {last}".rstrip()


def draw_frontiers(title: str, judge: Judge, routers: Mapping[str, Outcomes]) -> Figure:
    """Draw quality over cost: routers as lines, models as dots, the oracle as the limit."""
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    axes = figure.subplots()
    _draw_references(axes, judge)
    for index, (name, outcomes) in enumerate(routers.items()):
        x, y = envelope(*outcomes.points())
        color = COLORS[index % len(COLORS)]
        axes.plot(x * 1000, y, color=color, linewidth=1.9, label=name, drawstyle="steps-post")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("mean cost, USD per 1,000 queries (log scale)")
    axes.set_ylabel("mean quality")
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    top = float(judge.oracle.points()[1].max())
    cheapest = float(hull(*judge.single_models.points())[1][0])
    axes.set_ylim(max(0.0, cheapest - 0.05), min(1.0, top + 0.03))
    axes.legend(loc="lower right", fontsize=8.5, frameon=False)
    return figure


def _draw_references(axes: Axes, judge: Judge) -> None:
    cost, quality = judge.single_models.points()
    best = judge.best_single()
    x, y = envelope(*judge.oracle.points())
    axes.plot(x * 1000, y, color="#999999", linewidth=1.2, linestyle=":", label="oracle")
    corner_x, corner_y = hull(cost, quality)
    # A random mix is a straight line in USD, so it needs many points on a logarithmic axis.
    mixed = np.geomspace(corner_x[0], corner_x[-1], 200)
    level = np.interp(mixed, corner_x, corner_y)
    axes.plot(mixed * 1000, level, color=INK, linewidth=1.0, linestyle="--", label="random mix")
    axes.scatter(cost * 1000, quality, s=20, color="#bbbbbb", zorder=3, label="single models")
    axes.scatter(
        [cost[best] * 1000],
        [quality[best]],
        s=90,
        marker="*",
        color=INK,
        zorder=4,
        label="best single model",
    )
    axes.axhline(float(quality[best]), color=INK, linewidth=0.6, alpha=0.5)


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
    default=200,
    help="Bootstrap draws for the intervals; 0 leaves them out.",
)
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option(
    "--drop-hidden-reasoning",
    is_flag=True,
    help="Leave out models whose costs are known to be wrong.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("frontier.png"),
    help="PNG file to write the plot to.",
)
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
    picture: Path,
) -> None:
    """Measure routers on DATA, a parquet or CSV table of evaluations."""
    try:
        loaded = [open_artifact(file) for file in artifacts]
        dataset = read_dataset(data)
        dataset = dataset.without_hidden_reasoning() if drop_hidden_reasoning else dataset
        dataset = common_models(dataset.with_models(models) if models else dataset, loaded)
        own = loaded[0].encoder if loaded and encoder == "auto" else load_encoder(encoder)
        embedded = dataset.embedded(own)
        routers = {
            one.router.version: predict_for(
                one.router.serving_estimator,
                embedded if one.encoder.id == own.id else dataset.embedded(one.encoder),
                split,
            )
            for one in loaded
        }
        kinds = ("knn",) if loaded else ("kmeans", "knn")
        routers |= dict(baselines(embedded, split, seed, kinds))
        judge = Judge.of(complete(embedded.evaluations(split)))
    except (ConfigurationError, RouterModelsError) as error:
        raise click.ClickException(str(error)) from error
    n_models, n_queries = judge.single_models.quality.shape
    click.echo(f"{n_queries} queries, {n_models} models")
    click.echo(table(judge, routers, bootstrap, seed))
    draw_frontiers(f"{data.name}: {split}", judge, routers).savefig(picture, dpi=120)
    click.echo(f"wrote {picture}")
