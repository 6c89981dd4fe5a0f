"""What routing costs that knows prompt caches: `python -m benchmarks.prompt_caches.run --data DIR`.

Writes results.json and README.md beside itself; ``--only-report`` writes README.md alone.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.prompt_caches.contenders import IDLE_S, Always, Contender, Gateway, Pinned
from benchmarks.prompt_caches.world import (
    Call,
    Providers,
    Queries,
    ask,
    hosted_models,
    made_up_sessions,
    read_calls,
    read_queries,
    with_cached_price,
)
from gateway.routing.caches import PromptCaches
from gateway.types import HostedModel, Usage

HERE: Final = Path(__file__).parent
PAID_USD: Final = tuple(float(w) for w in np.geomspace(0.001, 3.0, 13))
SEEDS: Final = 2
RESAMPLES: Final = 1_000
OURS: Final = "ours"
FAMILIES: Final = (OURS, "ours, this call only", "per turn", "pinned", "pinned, 10 min idle")
LEVELS: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of the way from the lowest to the highest quality that both of two contenders reach."""


@dataclass(frozen=True, slots=True)
class World:
    """One set of circumstances.

    Attributes:
        cached_price: Times the catalogue's.
        lifetime_s: Of a cached prefix.
        pace: Times as fast as in the trace do calls come.
        changes: Probability that a call is about something else than the one before.
        of_agents: The calls are those of agents, and made up.
    """

    cached_price: float = 1.0
    lifetime_s: float = 300.0
    pace: float = 1.0
    changes: float = 0.3
    of_agents: bool = False


WORLDS: Final = {
    "as it is": World(),
    "cached tokens at half the price": World(cached_price=0.5),
    "cached tokens at twice the price": World(cached_price=2.0),
    "caches last 1 min": World(lifetime_s=60.0),
    "caches last 10 min": World(lifetime_s=600.0),
    "caches last 1 h": World(lifetime_s=3_600.0),
    "calls come 4 times as fast": World(pace=4.0),
    "calls come 4 times as slowly": World(pace=0.25),
    "one call in ten changes the subject": World(changes=0.1),
    "each call has a subject of its own": World(changes=1.0),
    "made-up agents": World(of_agents=True),
    "made-up agents, each call a subject": World(of_agents=True, changes=1.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Bill:
    """What a contender reached and paid in each conversation: sums over its calls."""

    quality: NDArray[np.float64]
    usd: NDArray[np.float64]
    cached_share: float
    switches: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the parquet tables")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS))
    parser.add_argument("--only-report", action="store_true")
    arguments = parser.parse_args()
    file = HERE / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    if not arguments.only_report:
        traced, queries = read_calls(arguments.data), read_queries(arguments.data)
        for name in arguments.worlds:
            calls = made_up_sessions() if WORLDS[name].of_agents else traced
            results[name] = measure(WORLDS[name], calls, queries, arguments.seeds)
            print(name, json.dumps(results[name]["savings"]), flush=True)
            file.write_text(written(results))
    write_readme(results)


def written(results: Mapping[str, Any]) -> str:
    """Write results as JSON, a line for each world."""
    lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in results.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def measure(world: World, calls: Sequence[Call], queries: Queries, seeds: int) -> dict[str, Any]:
    """Run all contenders in one world and compare them."""
    models = tuple(
        replace(model, price=with_cached_price(model.price, world.cached_price))
        for model in hosted_models()
    )
    bills: dict[str, list[Bill]] = {}
    for name, made in contenders(models).items():
        bills[name] = [
            joined([run(world, calls, queries, models, one, seed) for seed in range(seeds)])
            for one in made
        ]
    n_calls = seeds * len(of_several(calls))
    frontiers = {
        name: [
            {
                "quality": round(bill.quality.sum() / n_calls, 4),
                "usd_per_1000": round(1e3 * bill.usd.sum() / n_calls, 3),
                "cached": round(bill.cached_share, 3),
                "switches": round(bill.switches, 3),
            }
            for bill in found
        ]
        for name, found in bills.items()
    }
    return {"frontiers": frontiers, "savings": savings(bills, n_calls)}


def contenders(models: Sequence[HostedModel]) -> Mapping[str, list[Any]]:
    """Say how to make each contender, for every willingness to pay."""
    n = len(models)
    made: dict[str, list[Any]] = {name: [] for name in FAMILIES}
    for paid in PAID_USD:
        plain = partial(Gateway, models, paid)
        made[OURS].append(partial(_ours, models, paid, counts_later=True))
        made["ours, this call only"].append(partial(_ours, models, paid, counts_later=False))
        made["per turn"].append(plain)
        made["pinned"].append(lambda plain=plain: Pinned(plain(), inf))
        made["pinned, 10 min idle"].append(lambda plain=plain: Pinned(plain(), IDLE_S))
    for model in range(n):
        made[f"always {models[model].name}"] = [partial(Always, model)]
    return made


def _ours(models: Sequence[HostedModel], paid: float, *, counts_later: bool) -> Gateway:
    time = Time()
    return Gateway(models, paid, PromptCaches(time), counts_later, time)


class Time:
    """Simulated seconds."""

    now_s = 0.0

    def __call__(self) -> float:
        """Read the clock."""
        return self.now_s


def run(
    world: World,
    calls: Sequence[Call],
    queries: Queries,
    models: Sequence[HostedModel],
    make: Any,
    seed: int,
) -> Bill:
    """Have one contender serve the trace once."""
    asked = ask(calls, queries, world.changes, np.random.default_rng(seed))
    contender: Contender = make()
    providers = Providers.of(world.lifetime_s)
    counted = {call.conversation for call in of_several(calls)}
    n = 1 + max(call.conversation for call in calls)
    quality, usd, last = np.zeros(n), np.zeros(n), dict[int, int]()
    cached_tokens, prompt_tokens, switches, followed = 0, 0, 0, 0
    for call, query in zip(calls, asked, strict=True):
        at_s = call.at_s / world.pace
        if isinstance(contender, Gateway) and isinstance(contender.now, Time):
            contender.now.now_s = at_s
        model = contender.choose(call, at_s, queries.predicted[query])
        cached = providers.read(call, model, at_s)
        usage = Usage(call.prompt_tokens, call.completion_tokens, cached)
        contender.told(call, at_s, model, usage)
        if call.conversation not in counted:
            continue
        quality[call.conversation] += queries.scores[query, model]
        usd[call.conversation] += models[model].price.cost_nusd(usage) / 1e9
        if call.turns:
            cached_tokens += cached
            prompt_tokens += call.prompt_tokens
            followed += 1
            switches += last[call.conversation] != model
        last[call.conversation] = model
    return Bill(quality, usd, cached_tokens / prompt_tokens, switches / followed)


def of_several(calls: Sequence[Call]) -> list[Call]:
    """Return the calls of conversations of several: all others cost the same whoever chooses."""
    several = {call.conversation for call in calls if call.turns}
    return [call for call in calls if call.conversation in several]


def joined(bills: Sequence[Bill]) -> Bill:
    """Put the conversations of several runs side by side: row by row, the same in each run."""
    return Bill(
        np.sum([bill.quality for bill in bills], axis=0),
        np.sum([bill.usd for bill in bills], axis=0),
        float(np.mean([bill.cached_share for bill in bills])),
        float(np.mean([bill.switches for bill in bills])),
    )


def savings(bills: Mapping[str, Sequence[Bill]], n_calls: int) -> dict[str, Any]:
    """Compare what ours costs with every other, at equal quality, over resampled conversations."""
    rng = np.random.default_rng(0)
    n = len(bills[OURS][0].quality)
    curves = {name: _curve(found, np.ones(n), n_calls) for name, found in bills.items()}
    drawn: dict[str, list[float]] = {name: [] for name in bills if name != OURS}
    for _ in range(RESAMPLES):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        ours = _curve(bills[OURS], weights, n_calls)
        for name, found in drawn.items():
            found.append(_saving(ours, _curve(bills[name], weights, n_calls)))
    return {
        name: [
            round(_saving(curves[OURS], curves[name]), 4),
            *(round(float(x), 4) for x in np.percentile(found, [2.5, 97.5])),
        ]
        for name, found in drawn.items()
    }


Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def _curve(bills: Sequence[Bill], weights: NDArray[np.float64], n_calls: int) -> Curve:
    """Return quality and cost of the points that no other beats, by rising quality."""
    points = sorted(
        (float(weights @ bill.usd) / n_calls, float(weights @ bill.quality) / n_calls)
        for bill in bills
    )
    kept: list[tuple[float, float]] = []
    for usd, quality in points:
        if not kept or quality > kept[-1][1]:
            kept.append((usd, quality))
    return np.array([q for _, q in kept]), np.array([usd for usd, _ in kept])


def _saving(ours: Curve, other: Curve) -> float:
    """Average what ours saves, as a share of the other's cost, over qualities that both reach."""
    if len(other[0]) == 1:
        quality = min(max(other[0][0], ours[0][0]), ours[0][-1])
        return float(1.0 - np.interp(quality, *ours) / other[1][0])
    low, high = max(ours[0][0], other[0][0]), min(ours[0][-1], other[0][-1])
    levels = low + np.array(LEVELS) * (high - low)
    return float(np.mean(1.0 - np.interp(levels, *ours) / np.interp(levels, *other)))


def write_readme(results: Mapping[str, Any]) -> None:
    """Fill the template's tables."""
    text = (HERE / "template.md").read_text()
    text = text.replace("SAVINGS", "\n".join(_savings_rows(results)))
    (HERE / "README.md").write_text(text.replace("FRONTIERS", "\n".join(_frontier_rows(results))))


def _savings_rows(results: Mapping[str, Any]) -> list[str]:
    return [
        f"| {name} | {' | '.join(_share(found['savings'][other]) for other in FAMILIES[1:])} |"
        for name, found in results.items()
    ]


def _frontier_rows(results: Mapping[str, Any]) -> list[str]:
    frontiers = next(iter(results.values()))["frontiers"]
    rows = []
    for name in FAMILIES:
        for paid, point in list(zip(PAID_USD, frontiers[name], strict=True))[3::3]:
            figures = f"{point['quality']:.3f} | {point['usd_per_1000']:.2f}"
            shares = f"{100 * point['cached']:.0f} | {100 * point['switches']:.0f}"
            rows.append(f"| {name} | {paid:.3f} | {figures} | {shares} |")
    for name, points in frontiers.items():
        if name.startswith("always"):
            point = points[0]
            figures = f"{point['quality']:.3f} | {point['usd_per_1000']:.2f}"
            rows.append(f"| {name} | | {figures} | {100 * point['cached']:.0f} | 0 |")
    return rows


def _share(interval: Sequence[float]) -> str:
    saved, low, high = (100 * each for each in interval)
    return f"{saved:+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    main()
