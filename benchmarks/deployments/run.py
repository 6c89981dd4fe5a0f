"""Compares how gateways use several places of one model whose limits are reached.

``python -m benchmarks.deployments.run`` writes ``results.json`` and prints its tables. All
contenders run at the same time, each with places of its own, so that what disturbs the machine
disturbs all of them.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final

import numpy as np
from scipy import stats

from benchmarks.deployments.contenders import (
    CannotMeasure,
    Contender,
    litellm,
    switchyard,
    turns,
    waypost,
)
from benchmarks.deployments.load import Scenario, play
from benchmarks.deployments.upstreams import PLACES, Upstreams, serve

HERE: Final = Path(__file__).parent
SCENARIOS: Final = (
    Scenario("half", 0.5),
    Scenario("full", 1.0),
    Scenario("double", 2.0),
    Scenario("double, streams", 2.0, is_stream=True),
    Scenario("revoked", 0.5, has_revoked_key=True),
)
RETRIES: Final = len(PLACES) - 1
LITELLM: Final[Mapping[str, dict[str, object]]] = {
    "LiteLLM": {"routing_strategy": "simple-shuffle", "num_retries": RETRIES},
    "LiteLLM, limits enforced": {
        "routing_strategy": "simple-shuffle",
        "num_retries": RETRIES,
        "optional_pre_call_checks": ["enforce_model_rate_limits"],
    },
    "LiteLLM, by usage": {
        "routing_strategy": "usage-based-routing-v2",
        "num_retries": RETRIES,
        "enable_pre_call_checks": True,
    },
    "LiteLLM, least busy": {"routing_strategy": "least-busy", "num_retries": RETRIES},
}
"""`simple-shuffle` with `rpm` is what its documentation recommends. The others were tried apart:
every LiteLLM takes a quarter of a core at twice the limits, and two would disturb each other."""
ALL: Final = ("Waypost", "LiteLLM", "Switchyard", "Turns", "Turns, next on failure")
Figures = dict[str, dict[str, list[dict[str, float]]]]


@asynccontextmanager
async def everybody(
    upstream: str, folder: Path, peers: Path, only: Sequence[str]
) -> AsyncIterator[list[Contender]]:
    """Start all contenders, or those that `only` names."""
    makers = {
        "Waypost": partial(waypost, upstream, folder / "waypost"),
        **{
            name: partial(litellm, upstream, folder / f"litellm-{rank}", peers, name, settings)
            for rank, (name, settings) in enumerate(LITELLM.items())
        },
        "Switchyard": partial(switchyard, upstream, folder / "switchyard", peers),
    }
    async with AsyncExitStack() as stack:
        found = []
        for name, make in makers.items():
            if name not in only:
                continue
            try:
                found.append(await stack.enter_async_context(make()))
            except CannotMeasure as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
        by_themselves = (("Turns", 1), ("Turns, next on failure", len(PLACES)))
        yield found + [
            turns(upstream, name, tries) for name, tries in by_themselves if name in only
        ]


async def measure(
    seeds: Iterable[int], lasts_s: float, peers: Path, only: Sequence[str], names: Sequence[str]
) -> Figures:
    """Play every scenario once per seed."""
    upstreams, results = Upstreams(monotonic), Figures()
    runner, url = await serve(upstreams)
    with tempfile.TemporaryDirectory() as folder:
        async with everybody(url, Path(folder), peers, only) as contenders:
            for seed in seeds:
                for scenario in SCENARIOS:
                    if scenario.name not in names:
                        continue
                    print(f"seed {seed}, {scenario.name} ...", file=sys.stderr, flush=True)
                    seen = await play(scenario, contenders, upstreams, seed, lasts_s)
                    for name, one in seen.items():
                        rows = results.setdefault(scenario.name, {}).setdefault(name, [])
                        rows.append(one.figures(lasts_s))
                        print(name, dict(one.failures), rows[-1], file=sys.stderr)
    await runner.cleanup()
    return results


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the mean of each figure over the seeds, and half of its 95 % interval."""
    table = {}
    for key in rows[0]:
        values = np.array([row[key] for row in rows])
        half = 0.0
        if len(values) > 1:
            half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
        table[key] = [round(float(values.mean()), 4), round(half, 4)]
    return table


def tables(results: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> str:
    """Write the results as Markdown."""
    lines = []
    for scenario, contenders in results.items():
        offered = next(iter(contenders.values()))["offered_per_s"][0]
        lines += [f"\n{scenario}: {offered:.1f} calls/s\n"]
        lines += ["| | answers/s | 429 | failed | p50, s | p99, s | calls per answer | CPU, ms |"]
        lines += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
        for name, row in contenders.items():
            cells = [
                _with_half(row["answers_per_s"], "{:.2f}"),
                _with_half(row["limited"], "{:.1%}"),
                _with_half(row["failed"], "{:.1%}"),
                _with_half(row["p50_s"], "{:.2f}"),
                _with_half(row["p99_s"], "{:.2f}"),
                _with_half(row["calls_per_answer"], "{:.2f}"),
                f"{row['cpu_ms'][0]:.1f}",
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_half(value: Sequence[float], form: str) -> str:
    return f"{form} ± {form}".format(*value)


def main() -> None:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each round")
    parser.add_argument(
        "--peers", type=Path, default=Path(tempfile.gettempdir()) / "waypost-deployments-peers"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--only", nargs="*", default=ALL, help="contenders")
    parser.add_argument("--scenarios", nargs="*", default=[one.name for one in SCENARIOS])
    given = parser.parse_args()
    found = asyncio.run(
        measure(range(given.seeds), given.seconds, given.peers, given.only, given.scenarios)
    )
    results = {
        scenario: {name: summary(rows) for name, rows in contenders.items()}
        for scenario, contenders in found.items()
    }
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(tables(results))


if __name__ == "__main__":
    main()
