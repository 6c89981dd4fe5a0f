"""Measures what a second router costs a turn: one that is kept to be compared with, or a canary.

    PYTHONPATH=. python benchmarks/gateway_speed/second_router.py

It times the plan of a turn, embedding included, in one process: with the active router alone, and
with a second one beside it, which is asked in the same way whether it is kept or a canary. Rounds
are interleaved, and the lower decile of each counts, because other work only adds time. A learner
has no case of its own: it is another process, and no code of the plan asks for it.
"""

import asyncio
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
from queries import queries

from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import ArtifactStore
from gateway.providers.refusals import Refusals
from gateway.routing.canary import Canary
from gateway.routing.encoders import QueryEmbedder, load_encoder, open_embedder
from gateway.routing.exploring import OFF, Exploring, always
from gateway.routing.routing import Routing
from gateway.settings.config import DEFAULT_PROFILES
from gateway.types import Caller, Capabilities, HostedModel, ModelPrice
from gateway.wire import parse_chat_request
from router_models.artifacts.artifact import dump, load
from router_models.artifacts.router import Router
from router_models.training.settings import KMeansSettings
from router_models.training.train import train
from router_models.types import Evaluations
from tests.fakes.artifacts import CREATED_AT

MODELS = tuple(f"model-{number:02}" for number in range(1, 13))
TRAINING_QUERIES, CLUSTERS = 400, 128
ROUNDS, TURNS = 60, 25
CALLER = Caller("key", "team")
DECILE = 0.1


def main() -> None:
    """Print a row per kind of query, and what the second router adds."""
    encoder = load_encoder("static")
    embedder = open_embedder(encoder, max_entries=10_000)
    texts = list(queries(TRAINING_QUERIES, seed=7))
    active, second = (trained(embedder, texts, seed) for seed in (0, 1))
    with TemporaryDirectory() as folder:
        found = asyncio.run(measured(Path(folder), embedder, active, second))
    embedder.close()
    print("plan of a turn, CPU µs | active router alone | with a second one")
    for kind in ("new query", "query seen before"):
        alone, both = found[kind, False], found[kind, True]
        print(f"{kind} | {alone:.0f} | {both:.0f} (+{both - alone:.0f})")


def trained(embedder: QueryEmbedder, texts: list[str], seed: int) -> Router:
    """Train a K-means router on made-up answers."""
    rng = np.random.default_rng(seed)
    vectors = np.stack([embedder.encoder.encode([text])[0] for text in texts])
    shape = len(texts), len(MODELS)
    quality = (rng.random(shape) < rng.uniform(0.3, 0.8, len(MODELS))).astype(np.float32)
    cost = (rng.uniform(0.5, 1.5, shape) * np.geomspace(1e-4, 1e-2, shape[1])).astype(np.float32)
    rows = Evaluations(vectors, quality, cost, MODELS)
    made = train(rows, rows, "kmeans", seed, KMeansSettings(n_clusters=CLUSTERS))
    data = dump(made, embedder.encoder, created_at=CREATED_AT, training={}, provenance={})
    return load(data, embedder.encoder)


async def measured(
    folder: Path, embedder: QueryEmbedder, active: Router, second: Router
) -> dict[tuple[str, bool], float]:
    """Return CPU µs per turn by kind of query, without and with the second router."""
    router = ActiveRouter(ArtifactStore(folder), embedder.encoder)
    router.current = active
    canary = Canary(lambda: None, router, np.random.default_rng(0))
    models = {
        name: HostedModel(name, "p", name, ModelPrice(rank, 4 * rank), Capabilities())
        for rank, name in enumerate(MODELS, 1)
    }
    routing = Routing(
        models=models,
        profiles=DEFAULT_PROFILES,
        default_profile="balanced",
        default_model=MODELS[0],
        exploration=Exploring(OFF, always, None),
        embedder=embedder,
        router=router,
        paused=tuple,
        refusals=Refusals(time.monotonic),
        rng=np.random.default_rng(0),
        canary=canary,
    )
    new = queries(10**9, seed=1)
    kinds: dict[str, Iterator[str]] = {"new query": new, "query seen before": cycle([next(new)])}
    times: dict[tuple[str, bool], list[float]] = {}
    for _ in range(ROUNDS):
        for kind, texts in kinds.items():
            for has_second in (False, True):
                canary.current = (second, 0.05) if has_second else None
                taken_us = await one_round(routing, texts)
                times.setdefault((kind, has_second), []).append(taken_us)
    return {case: float(np.quantile(each, DECILE)) for case, each in times.items()}


async def one_round(routing: Routing, texts: Iterator[str]) -> float:
    """Plan some turns; return the CPU µs of one."""
    bodies = [
        {"model": "auto", "max_tokens": 256, "messages": [{"role": "user", "content": next(texts)}]}
        for _ in range(TURNS)
    ]
    requests = [parse_chat_request(orjson.dumps(body), {}) for body in bodies]
    began_s = time.thread_time()
    for request in requests:
        routing.choose(await routing.predict(request, CALLER))
    return 1e6 * (time.thread_time() - began_s) / TURNS


if __name__ == "__main__":
    main()
