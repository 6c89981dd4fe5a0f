"""What a team with a hundred times the load costs another team at one provider.

``python -m benchmarks.fair_queue.run`` writes ``results.json`` and prints its table. The gateway's
own `Limiter` runs on an event loop whose clock jumps from one event to the next, so the result
depends on neither the machine nor its load. The first-come-first-served line stands beside it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from selectors import DefaultSelector
from typing import Any, Final

import numpy as np

from gateway.errors import ProviderUnavailable
from gateway.providers.limiter import Limiter

HERE: Final = Path(__file__).parent
SEEDS: Final = 10
PLACES: Final = 20
WAIT_S: Final = 5.0
MEAN_ANSWER_S: Final = 2.0
SIGMA: Final = 0.8
"""Of the logarithm: half of the answers take less than 1.5 s, one in twenty more than 5.4 s."""
OVERLOAD: Final = 2.0
"""Times what the places can serve."""
TIMES: Final = 100
"""The large team's load beside the small one's."""
LASTS_S: Final = 2_000.0
LARGE, SMALL = "large", "small"

Line = Callable[[str], AbstractAsyncContextManager[Any]]


class JumpingSelector(DefaultSelector):
    """Waits no time: it moves the clock instead."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Pass `timeout` seconds at once."""
        self.now_s += timeout or 0.0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock shows simulated time."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return simulated seconds."""
        return self._jumping.now_s


@dataclass
class Seen:
    """What became of a team's calls; times are from the call to the end of its answer."""

    taken_s: list[float] = field(default_factory=list)
    refused: int = 0


def first_come() -> Line:
    """Make the line that was there before: one for all, as long as there are places."""
    places, waiting = asyncio.Semaphore(PLACES), 0

    @asynccontextmanager
    async def place(team_id: str) -> Any:
        nonlocal waiting
        if waiting >= PLACES:
            raise ProviderUnavailable(team_id, provider="p")
        waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await places.acquire()
        except TimeoutError as error:
            raise ProviderUnavailable(team_id, provider="p") from error
        finally:
            waiting -= 1
        try:
            yield
        finally:
            places.release()

    return place


def fair() -> Line:
    """Make the gateway's own."""
    return Limiter("p", PLACES, WAIT_S).place


async def load(
    make: Callable[[], Line], seed: int, *, is_beside: bool, lasts_s: float = LASTS_S
) -> dict[str, Seen]:
    """Send both teams' calls, or those of the small one alone."""
    line, seen = make(), {LARGE: Seen(), SMALL: Seen()}
    now = asyncio.get_running_loop().time
    rate = OVERLOAD * PLACES / MEAN_ANSWER_S
    rng = np.random.default_rng(seed)

    async def call(team_id: str, answer_s: float) -> None:
        began_s = now()
        try:
            async with line(team_id):
                await asyncio.sleep(answer_s)
        except ProviderUnavailable:
            seen[team_id].refused += 1
        else:
            seen[team_id].taken_s.append(now() - began_s)

    async with asyncio.TaskGroup() as group:
        while now() < lasts_s:
            await asyncio.sleep(rng.exponential(1 / rate))
            team_id = SMALL if rng.random() < 1 / (TIMES + 1) else LARGE
            answer_s = MEAN_ANSWER_S * rng.lognormal(-(SIGMA**2) / 2, SIGMA)
            if is_beside or team_id == SMALL:
                group.create_task(call(team_id, float(answer_s)))
    return seen


def run(main: Callable[[], Awaitable[dict[str, Seen]]]) -> dict[str, Seen]:
    """Run it in simulated time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())  # type: ignore[arg-type]


def measure() -> dict[str, dict[str, float]]:
    """Measure the small team in each line, with and without the large one."""
    table: dict[str, dict[str, float]] = {}
    lines = {"alone": (fair, False), "first come": (first_come, True), "turns": (fair, True)}
    for name, (make, is_beside) in lines.items():
        taken, refused = [], []
        for seed in range(SEEDS):
            seen = run(partial(load, make, seed, is_beside=is_beside))[SMALL]
            taken.append([*np.percentile(seen.taken_s, (50, 95, 99))])
            refused.append(seen.refused / (seen.refused + len(seen.taken_s)))
        p50, p95, p99 = np.mean(taken, axis=0)
        table[name] = {"p50_s": p50, "p95_s": p95, "p99_s": p99, "refused": float(np.mean(refused))}
    return table


def main() -> None:
    """Write the results and print them."""
    table = {
        name: {key: round(float(value), 4) for key, value in row.items()}
        for name, row in measure().items()
    }
    (HERE / "results.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    print("| line | p50, s | p95, s | p99, s | refused |\n|---|---:|---:|---:|---:|")
    for name, row in table.items():
        p50, p95, p99 = row["p50_s"], row["p95_s"], row["p99_s"]
        print(f"| {name} | {p50:.2f} | {p95:.2f} | {p99:.2f} | {row['refused']:.0%} |")


if __name__ == "__main__":
    main()
