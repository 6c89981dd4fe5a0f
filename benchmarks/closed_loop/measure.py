"""What a contender's choices were worth: by day, beside the first router, and after each change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.closed_loop.contenders import FIRST, INFORMED, Choices
from benchmarks.closed_loop.world import CHEAPER, NEWCOMER, WORSE, Float64, World
from router_models.evaluation.anytime import Differences, look

LESS: Final = 0.02
"""How much worse than the first router a day may be, as a share of what that makes."""
RISK: Final = 0.05
SETTLED_DAYS: Final = 3
"""Before a change, whose mean is the share of traffic that a model had."""
MOVED: Final = 0.5
"""Share of the way to what the informed router does, after which a change counts as found."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the world, and whose traffic shows that it was found."""

    name: str
    day: int
    model: str


def changes_of(world: World) -> tuple[Change, ...]:
    """List the changes that move traffic to or from one model."""
    plan = world.plan
    return (
        Change("a model gets worse", plan.worse_from, WORSE),
        Change("a model gets cheaper", plan.cheaper_from, CHEAPER),
        Change("a new model", plan.newcomer_from, NEWCOMER),
    )


def by_day(values: Float64, world: World) -> Float64:
    """Take the mean of each day."""
    return np.asarray(values.reshape(world.asked.shape).mean(axis=1), np.float64)


def share_by_day(chosen: NDArray[np.intp], column: int, world: World) -> Float64:
    """Return a model's share of the traffic of each day."""
    return by_day((chosen == column).astype(np.float64), world)


def days_until_found(share: Float64, informed: Float64, day: int) -> float:
    """Count the days from a change until the traffic has moved half of the way.

    Args:
        share: Of the model's traffic, by day.
        informed: The same of a router that knows.
        day: Of the change.

    Returns:
        NaN where there was nothing to move, infinity where it did not move far enough.
    """
    before = float(share[max(day - SETTLED_DAYS, 0) : day].mean())
    wanted = float(informed[day : day + SETTLED_DAYS].mean())
    way = wanted - before
    if abs(way) < 0.05:
        return float("nan")
    moved = (share[day:] - before) / way >= MOVED
    return float(moved.argmax()) if moved.any() else float("inf")


def compare(utility: Float64, first: Float64, world: World) -> dict[str, Any]:
    """Compare with the first router: each day, and by a test that may be looked at any time."""
    least = by_day(first, world)
    ratio = by_day(utility, world) / least
    nothing = np.zeros_like(utility)
    # Both routers' utilities are known here for every turn, so no answer was drawn.
    difference = Differences(utility - first, nothing, nothing, np.ones_like(utility))
    found = look(difference, LESS * float(first.mean()))
    return {
        "ratio": ratio.round(4).tolist(),
        "worst_day": float(ratio.min()),
        "days_below": int((ratio < 1.0 - LESS).sum()),
        "p_worse": found.p_value,
        "is_worse": found.is_worse(RISK),
    }


def measure(world: World, utilities: Float64, choices: Mapping[str, Choices]) -> dict[str, Any]:
    """Sum up one seed."""
    turns = np.arange(len(utilities))
    of = {name: utilities[turns, made.chosen] for name, made in choices.items()}
    informed = choices[INFORMED].chosen
    found: dict[str, Any] = {}
    for name, made in choices.items():
        line: dict[str, Any] = {
            "total": float(of[name].sum()),
            "by_day": by_day(of[name], world).round(4).tolist(),
            "first": compare(of[name], of[FIRST], world),
            "exploring_usd": made.exploring_usd,
            "explored": made.explored,
            "judge_usd": made.judge_usd,
            "verdicts": list(made.verdicts),
            "served_usd": _served_usd(world, made.chosen),
            "events": _counts(made.events),
            "activated": [day for day, what, _ in made.events if what == "activated"],
            "rolled_back": [day for day, what, _ in made.events if what == "rolled_back"],
        }
        columns = {one.name: world.answers.models.index(one.model) for one in changes_of(world)}
        line["shares"] = {
            change: share_by_day(made.chosen, column, world).round(4).tolist()
            for change, column in columns.items()
        }
        line["days_until_found"] = {
            one.name: days_until_found(
                share_by_day(made.chosen, columns[one.name], world),
                share_by_day(informed, columns[one.name], world),
                one.day,
            )
            for one in changes_of(world)
        }
        found[name] = line
    return found


def _served_usd(world: World, chosen: NDArray[np.intp]) -> float:
    costs = [world.cost_usd(day, queries) for day, queries in enumerate(world.asked)]
    return float(np.concatenate(costs)[np.arange(len(chosen)), chosen].sum())


def _counts(events: Sequence[tuple[float, str, str]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, what, _ in events:
        counts[what] = counts.get(what, 0) + 1
    return counts
