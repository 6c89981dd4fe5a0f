"""Makes the prior that ships with the gateway, from public evaluations."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.day_one.completion import (
    complete_log_tokens,
    complete_scores,
    held_out_logits,
)
from benchmarks.day_one.prior import KnownAnswers, Prior, fit_prior
from benchmarks.day_one.run import SETS
from benchmarks.day_one.tables import Float64, list_price, read_tokens
from gateway.problems.datasets import read_dataset
from gateway.routing.encoders import load_encoder
from gateway.routing.prior import DATA
from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import RouterManifest
from router_models.day_one.abilities import MOST_AXES, Spread, leave_out_each
from router_models.day_one.shipped import KIND, ShippedPrior, dump_prior
from router_models.estimators.arrays import Scaler
from router_models.estimators.factors import SCORE_FLOOR
from router_models.types import Encoder, Float32

NAMES: Final = Path(__file__).with_name("names.json")
UNLINKED: Final = "reasoning_gym"
"""One of its models is in another table: too few to put the abilities of both on one scale. It
tells how far new models lie from known ones, and nothing else."""
LEAST_COVERAGE: Final = 0.4
"""Of a table's train queries; a model that answered fewer is left out."""
SPREAD_ROWS: Final = 3000
KNOWN_OFFSET: Final = 0.14
"""Variance of a known model's offset, less what all models share, in logits: the mean over
`mmlu_pro`, `zeroeval` and `llmrouter_ulab` (0.08, 0.12, 0.22), each left out of the prior."""
KNOWN_CLUSTERS: Final = 0.4
"""Variance of its deviations by cluster over that of a new model: 0.18 (0.01, 0.03, 0.50) measured
in the same way, over the residual."""
CREATED_AT: Final = datetime(2026, 11, 30, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--out", type=Path, default=DATA)
    parser.add_argument("--without", help="leave this set out, as for a fair benchmark on it")
    parser.add_argument("--encoder", choices=["static", "minilm"], default="static")
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.encoder)
    data = make_prior(arguments.data, encoder, arguments.without)
    file = arguments.out / f"prior-{encoder.id}.safetensors"
    file.write_bytes(data)
    print(f"{file}: {len(data) / 1e3:.0f} kB")


def make_prior(folder: Path, encoder: Encoder, without: str | None = None) -> bytes:
    """Make a prior of the tables in `folder`, as a sealed file.

    Args:
        without: A set to leave out, so that what is measured on it was not seen.
    """
    names = json.loads(NAMES.read_text())
    canonical, aliases = names["canonical"], names["aliases"]
    sets = [name for name in SETS if name != without]
    parts = [_Part.read(folder / f"{name}.parquet", encoder, canonical) for name in sets]
    linked = [part for name, part in zip(sets, parts, strict=True) if name != UNLINKED]
    known = joined(linked)
    prior = fit_prior(known, 0, spread=typical_spread(parts))
    registry = ModelRegistry({m: aliases[m] for m in known.models if aliases.get(m)})
    provenance = {name: len(part.score) for name, part in zip(sets, parts, strict=True)}
    return dump_prior(shipped(prior, provenance), encoder, CREATED_AT, registry)


class _Part:
    """The train queries of one table; NaN where a model did not answer."""

    def __init__(
        self,
        models: tuple[str, ...],
        embeddings: Float32,
        score: Float64,
        log_tokens: Float64,
        prompt_tokens: Float64,
        price: Float64,
    ) -> None:
        self.models, self.embeddings, self.score = models, embeddings, score
        self.log_tokens, self.prompt_tokens, self.price = log_tokens, prompt_tokens, price

    @classmethod
    def read(cls, path: Path, encoder: Encoder, canonical: dict[str, str]) -> "_Part":
        """Read a table; models without known costs are left out, and named as everywhere."""
        dataset = read_dataset(path).without_hidden_reasoning()
        prompt, completion = read_tokens(path, dataset)
        inside = np.array(dataset.splits) == "train"
        covered = np.isfinite(dataset.quality[inside]).mean(axis=0) >= LEAST_COVERAGE
        keep = np.ix_(inside, covered)
        score = dataset.quality[keep].astype(np.float64)
        cost, prompt, completion = dataset.cost_usd[keep], prompt[keep], completion[keep]
        log_tokens = np.where(completion > 0, np.log(np.maximum(completion, 1.0)), np.nan)
        dataset = dataset.embedded(encoder)
        assert dataset.embeddings is not None
        price = []
        for column in range(score.shape[1]):
            rows = np.isfinite(score[:, column])
            tokens = prompt[rows, column], completion[rows, column]
            price.append(list_price(*tokens, cost[rows, column].astype(np.float64)).max())
        models = [m for m, kept in zip(dataset.models, covered, strict=True) if kept]
        return cls(
            tuple(canonical.get(model, model.lower()) for model in models),
            dataset.embeddings[inside],
            score,
            log_tokens,
            prompt.max(axis=1),
            np.array(price),
        )


def joined(parts: list[_Part]) -> KnownAnswers:
    """Put tables under each other, a column per model, and fill in what is missing."""
    models = tuple(sorted({model for part in parts for model in part.models}))
    score: list[Float64] = []
    log_tokens: list[Float64] = []
    prices: dict[str, list[float]] = {model: [] for model in models}
    for part in parts:
        for source, target in ((part.score, score), (part.log_tokens, log_tokens)):
            block = np.full((len(source), len(models)), np.nan)
            for column, model in enumerate(part.models):
                block[:, models.index(model)] = source[:, column]
            target.append(block)
        for model, price in zip(part.models, part.price, strict=True):
            prices[model].append(float(price))
    embeddings = np.concatenate([part.embeddings for part in parts])
    scaled = Scaler.fit(embeddings).apply(embeddings)
    tokens = np.exp(complete_log_tokens(np.concatenate(log_tokens)))
    return KnownAnswers(
        models,
        embeddings,
        complete_scores(scaled, np.concatenate(score)),
        tokens,
        np.concatenate([part.prompt_tokens for part in parts]),
        np.array([np.median(prices[model]) for model in models]),
    )


def typical_spread(parts: list[_Part]) -> Spread:
    """Mean over tables of how far models lie that are left out.

    Not of the joined table: what is filled in there follows the axes, and leaves no residual.
    """
    found = []
    for part in parts:
        whole = part.score[:, np.isfinite(part.score).all(axis=0)]
        scaled = Scaler.fit(part.embeddings).apply(part.embeddings)
        mean = np.clip(whole.mean(axis=0), SCORE_FLOOR, 1.0 - SCORE_FLOOR)
        found.append(leave_out_each(held_out_logits(scaled, whole)[:SPREAD_ROWS], mean))
    axes = [float(np.mean([one.axes[0] for one in found]))]
    axes += [float(np.mean([one.axes[1:].mean() for one in found]))] * (MOST_AXES)
    return Spread(
        np.array(axes),
        float(np.mean([one.offset for one in found])),
        float(np.mean([one.residual for one in found])),
    )


def shipped(prior: Prior, provenance: dict[str, int]) -> ShippedPrior:
    """Keep what a gateway needs of a prior.

    A known model's offset and clusters stay uncertain, since a gateway's queries and its graders
    are not those of the evaluations, but less than those of a new model: what it answered elsewhere
    says more of it than its place among others.
    """
    new = prior.believe().covariance.diagonal()
    known = new.copy()
    axes = prior.profile.n_axes
    known[:axes], known[axes] = 0.0, KNOWN_OFFSET
    known[axes + 1 :] *= KNOWN_CLUSTERS
    manifest = RouterManifest(
        format_version=1,
        kind=KIND,
        created_at=CREATED_AT,
        training={"residual": round(prior.spread.residual, 3)},
        provenance=provenance,
        parent=None,
        encoder_id="",
        encoder_sha256="",
        dimension=0,
        models=prior.models,
        has_guard=False,
    )
    return ShippedPrior(
        manifest,
        prior.profile,
        prior.prompt_head,
        prior.token_factors.astype(np.float32),
        known,
        new.copy(),
        prior.items,
        prior.lengths,
        prior.abilities,
    )


if __name__ == "__main__":
    main()
