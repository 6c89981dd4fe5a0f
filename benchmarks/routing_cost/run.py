"""Predicted against true cost: `python -m benchmarks.routing_cost.run --data DIR`.

Writes results.json and README.md beside itself. Needs the extra `tokens`.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from scipy.stats import spearmanr

from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import ArtifactStore
from gateway.budgets.prompt_tokens import Count, find_tokenizer
from gateway.commands.train import carve
from gateway.problems.datasets import Dataset, read_dataset
from gateway.providers.refusals import Refusals
from gateway.routing.encoders import QueryEmbedder, load_encoder
from gateway.routing.expected_cost import PoolPrices
from gateway.routing.exploring import OFF, Exploring, always
from gateway.routing.routing import Routing
from gateway.settings.config import DEFAULT_PROFILES
from gateway.types import Caller, HostedModel, ModelPrice
from gateway.wire import ChatRequest, parse_chat_request
from router_models.artifacts.artifact import dump
from router_models.pricing import Prompts, in_usd, unit_of
from router_models.training.settings import KINDS
from router_models.training.train import train
from router_models.types import (
    TOKENS_PER_MTOK,
    USD,
    Encoder,
    Evaluations,
    Float32,
    Float64,
    Prediction,
    Unit,
)

HERE: Final = Path(__file__).parent
SETS: Final = ("reasoning_gym", "zeroeval", "mmlu_pro")
ESTIMATORS: Final = ("kmeans", "ridge")
LEAST_COVERED: Final = 0.9
CHARS: Final = tuple(int(n) for n in np.geomspace(10, 100_000, 9))
PADDED: Final = 40
"""Prompts of each length."""
TIMED: Final = 12
"""Models of the pool whose decisions are timed."""
DECISIONS: Final = 500
PAIRS: Final = 15
CREATED_AT: Final = datetime(2026, 11, 30, tzinfo=UTC)
FIGURES: Final = ("total", "total at other prices", "rank over lengths", "total over lengths")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the parquet tables")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="measured anew; others stay")
    parser.add_argument("--only-time", action="store_true", help="time decisions on the first set")
    arguments = parser.parse_args()
    encoder, count = load_encoder("static"), find_tokenizer()
    if count is None:
        parser.error("install the extra `tokens`: true prompts are counted by a tokenizer")
    file = HERE / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for name in [] if arguments.only_time else arguments.sets:
        dataset = covered(read_dataset(arguments.data / f"{name}.parquet")).embedded(encoder)
        results[name] = measure(dataset, encoder, count)
        print(name, json.dumps(results[name]), flush=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
    dataset = covered(read_dataset(arguments.data / f"{arguments.sets[0]}.parquet"))
    dataset = dataset.embedded(encoder)
    results["decision"] = asyncio.run(time_decisions(dataset, encoder))
    print(results["decision"])
    file.write_text(json.dumps(results, indent=1) + "\n")
    write_readme(results)


def covered(dataset: Dataset) -> Dataset:
    """Keep the models that answered nearly every query and whose tokens are not understated."""
    dataset = dataset.without_hidden_reasoning()
    share = np.isfinite(dataset.quality).mean(axis=0)
    kept = zip(dataset.models, share, strict=True)
    return dataset.with_models([model for model, part in kept if part >= LEAST_COVERED])


def parts_of(dataset: Dataset) -> tuple[Evaluations, Evaluations, Evaluations]:
    """Rows to learn from, to stop by, and held out."""
    if "test" in dataset.splits:
        train_rows, validation, test = map(dataset.evaluations, ("train", "val", "test"))
        return train_rows, validation, test
    learned, validation = carve(dataset.evaluations("train"))
    return learned, validation, dataset.evaluations("val")


def measure(dataset: Dataset, encoder: Encoder, count: Count) -> dict[str, Any]:
    """Measure routers of tokens and of USD on one set."""
    learned, validation, held_out = parts_of(dataset)
    long = Padded.of(held_out, encoder, count)
    found: dict[str, Any] = {"models": len(dataset.models), "queries": len(held_out.quality)}
    for rows in ("all answers", "one answer a query"):
        learned = learned if rows == "all answers" else thinned(learned)
        for kind in ESTIMATORS:
            found[f"{kind}, {rows}"] = {
                "tokens": of_router(learned, validation, held_out, kind, long),
                "usd": of_router(
                    without_tokens(learned), without_tokens(validation), held_out, kind, long
                ),
            }
    return found


def without_tokens(rows: Evaluations) -> Evaluations:
    return replace(rows, tokens=None)


def thinned(rows: Evaluations) -> Evaluations:
    """Keep one answer of each query, drawn evenly, as in a gateway's log."""
    kept = np.zeros(rows.quality.shape, bool)
    places = np.random.default_rng(0).integers(0, len(rows.models), len(kept))
    kept[np.arange(len(kept)), places] = True
    quality, cost = (np.where(kept, each, np.nan) for each in (rows.quality, rows.cost_usd))
    return replace(rows, quality=quality.astype(np.float32), cost_usd=cost.astype(np.float32))


def of_router(
    learned: Evaluations, validation: Evaluations, held_out: Evaluations, kind: str, long: "Padded"
) -> dict[str, float]:
    """Train one router and price what it predicts."""
    router, unit = train(learned, validation, kind, 0, KINDS[kind]()), unit_of(learned)
    predicted, prompts = router.predict(held_out.embeddings), Prompts.of(held_out)
    tokens = held_out.tokens
    assert prompts is not None
    assert tokens is not None
    answered = np.isfinite(held_out.cost_usd)
    priced = in_usd(predicted, unit, prompts).cost_usd
    moved = replace(prompts, prices=np.roll(tokens.prices, 1, axis=1))
    true_moved = moved.usd(
        Prediction(held_out.quality, tokens.completion / np.float32(TOKENS_PER_MTOK))
    )
    expected = long.expected_usd(router.predict(long.embeddings).cost_usd, unit)
    known = np.isfinite(long.cost_usd)
    return {
        "total": ratio(priced, held_out.cost_usd, answered),
        "rank": rank(priced[answered], held_out.cost_usd[answered]),
        "total at other prices": ratio(
            in_usd(predicted, unit, moved).cost_usd, true_moved.cost_usd, answered
        ),
        "rank over lengths": rank(expected[known], long.cost_usd[known]),
        "total over lengths": ratio(expected, long.cost_usd, known),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Padded:
    """Prompts that were cut or padded to `CHARS`.

    Attributes:
        embeddings: Of the prompts as they are sent.
        prompt_tokens: As the gateway expects them.
        cost_usd: At list prices: of the prompt, counted, and of the answer to the whole query,
            since what the padding would change nobody knows; shape ``(n_prompts, n_models)``.
        prices: As the gateway lays them out.
    """

    embeddings: Float32
    prompt_tokens: tuple[int, ...]
    cost_usd: Float64
    prices: PoolPrices

    @classmethod
    def of(cls, rows: Evaluations, encoder: Encoder, count: Count) -> "Padded":
        """Make `PADDED` prompts of each length."""
        tokens = rows.tokens
        assert tokens is not None
        prompts = list(padded(rows.texts))
        counted = np.array([count(text) for _, text in prompts], np.float64)
        paid, earned = tokens.prices
        answers = tokens.completion[[row for row, _ in prompts]]
        return cls(
            encoder.encode([text for _, text in prompts]),
            tuple(asked(text).prompt_tokens for _, text in prompts),
            counted[:, None] * paid + answers * earned,
            PoolPrices.of(hosted(rows.models, tokens.prices)),
        )

    def expected_usd(self, amounts: Float32, unit: Unit) -> NDArray[Any]:
        """Price predictions as serving does."""
        if unit == USD:
            return amounts
        pairs = zip(self.prompt_tokens, amounts * TOKENS_PER_MTOK, strict=True)
        return np.array([self.prices.cost_usd(n, row.tolist()) for n, row in pairs], np.float64)


def padded(texts: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield places of texts, and these cut, or followed by others."""
    rng = np.random.default_rng(0)
    for chars in CHARS:
        for row in rng.integers(0, len(texts), PADDED).tolist():
            text = texts[row]
            while len(text) < chars:
                text += "\n\n" + texts[int(rng.integers(len(texts)))]
            yield row, text[:chars]


def hosted(models: tuple[str, ...], prices: Float64) -> list[HostedModel]:
    paid, earned = np.rint(prices * TOKENS_PER_MTOK * 1e9).astype(int).tolist()
    return [
        HostedModel(name, "p", name, ModelPrice(a, b))
        for name, a, b in zip(models, paid, earned, strict=True)
    ]


def asked(text: str) -> ChatRequest:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    return parse_chat_request(orjson.dumps(body), {})


def ratio(predicted: Any, true: Any, counted: NDArray[np.bool_]) -> float:
    return round(float(np.sum(predicted[counted]) / np.sum(true[counted])), 3)


def rank(predicted: Any, true: Any) -> float:
    return round(float(spearmanr(predicted, true).statistic), 3)


async def time_decisions(dataset: Dataset, encoder: Encoder) -> dict[str, float]:
    """Time parsing and planning with a router of each unit, in turns."""
    learned, validation, held_out = parts_of(dataset.with_models(dataset.models[:TIMED]))
    assert held_out.tokens is not None
    bodies = [
        orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]})
        for text in held_out.texts[:DECISIONS]
    ]
    with TemporaryDirectory() as folder:
        routings = {}
        for unit in ("usd", "tokens"):
            rows = [r if unit == "tokens" else without_tokens(r) for r in (learned, validation)]
            trained = train(rows[0], rows[1], "kmeans", 0, KINDS["kmeans"]())
            store = ArtifactStore(Path(folder) / unit)
            data = dump(
                trained,
                encoder,
                created_at=CREATED_AT,
                training={},
                provenance={},
                unit=unit_of(rows[0]),
            )
            store.activate(store.put(data).version)
            routings[unit] = await _routing(store, encoder, held_out)
        cpu: dict[str, list[float]] = {unit: [] for unit in routings}
        for _ in range(PAIRS):
            for unit, routing in routings.items():
                cpu[unit].append(await _cpu_us(routing, bodies))
    medians = {unit: round(statistics.median(values), 1) for unit, values in cpu.items()}
    pairs = [b / a for a, b in zip(cpu["usd"], cpu["tokens"], strict=True)]
    return {**medians, "ratio": round(statistics.median(pairs), 3)}


async def _routing(store: ArtifactStore, encoder: Encoder, rows: Evaluations) -> Routing:
    assert rows.tokens is not None
    router = ActiveRouter(store, encoder)
    await router.refresh()
    models = {model.name: model for model in hosted(rows.models, rows.tokens.prices)}
    return Routing(
        models=models,
        profiles=DEFAULT_PROFILES,
        default_profile="balanced",
        default_model=rows.models[0],
        exploration=Exploring(OFF, always, None),
        embedder=QueryEmbedder(encoder),
        router=router,
        paused=tuple,
        refusals=Refusals(time.monotonic),
        rng=np.random.default_rng(0),
    )


async def _cpu_us(routing: Routing, bodies: list[bytes]) -> float:
    caller = Caller("k", "t")
    started = time.process_time()
    for body in bodies:
        routing.choose(await routing.predict(parse_chat_request(body, {}), caller))
    return 1e6 * (time.process_time() - started) / len(bodies)


def write_readme(results: dict[str, Any]) -> None:
    lines = []
    for name in SETS:
        for router, units in results.get(name, {}).items():
            if isinstance(units, dict):
                cells = [f"{units[u][f]:.3f}" for f in FIGURES for u in ("tokens", "usd")]
                lines.append(f"| {name} | {router} | {' | '.join(cells)} |")
    text = (HERE / "template.md").read_text().replace("LINES", "\n".join(lines))
    for unit, value in results["decision"].items():
        text = text.replace(f"DECISION_{unit.upper()}", str(value))
    (HERE / "README.md").write_text(text)


if __name__ == "__main__":
    main()
