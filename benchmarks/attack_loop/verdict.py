"""What the figures of a run mean: a table per question, and what was promised and not held."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import quantiles
from typing import Any

from benchmarks.attack_loop.deployment import DEADLINE_S

SLOWEST_HEALTH_S = 0.2
MOST_GROWTH_MB = 40.0
"""Of memory, from after a minute of all attacks to the end."""

Asked = tuple[float, float, float]
"""When a question was asked, how long the answer took, and the CPU time used meanwhile."""

LATE_S = 5.0
"""How long after its deadline a stream may end on a busy machine."""


def spread_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Summarise durations."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    figures = {"p50": cuts[49], "p99": cuts[98], "max": max(seconds)}
    return {name: round(1000 * value, 2) for name, value in figures.items()}


def by_attack(
    runs: Iterable[Mapping[str, Any]], asked: Sequence[Asked], control: Sequence[Asked]
) -> list[dict[str, Any]]:
    """Say of each attack how slow /health was while it ran.

    Args:
        runs: When each attack ran.
        asked: When /health was asked, and how long it took.
        control: The same of the control.
    """
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        begun_s, ended_s = run["begun_s"], run["ended_s"]
        row = found.setdefault(
            run["name"],
            {"name": run["name"], "runs": 0, "statuses": Counter(), "longest_s": 0.0}
            | {"health_max_ms": 0.0, "cpu_max_ms": 0.0, "control_max_ms": 0.0},
        )
        took_ms, cpu_ms = _most_ms(asked, begun_s, ended_s)
        control_ms, _ = _most_ms(control, begun_s, ended_s)
        row["runs"] += 1
        row["health_max_ms"] = max(row["health_max_ms"], took_ms)
        row["cpu_max_ms"] = max(row["cpu_max_ms"], cpu_ms)
        row["control_max_ms"] = max(row["control_max_ms"], control_ms)
        row["longest_s"] = max(row["longest_s"], round(ended_s - begun_s, 2))
        row["statuses"].update(run["statuses"])
    return list(found.values())


def _most_ms(asked: Sequence[Asked], begun_s: float, ended_s: float) -> tuple[float, float]:
    """Return the longest time and the most CPU time of the questions of a while."""
    during = [one for one in asked if one[0] < ended_s and one[0] + one[1] > begun_s]
    longest, most = (
        max((one[1] for one in during), default=0),
        max((one[2] for one in during), default=0),
    )
    return round(1000 * longest, 1), round(1000 * most, 1)


def by_spending(
    attacks: Iterable[Mapping[str, Any]],
    charged: Mapping[str, int],
    billed: Mapping[str, int],
    cap: int,
) -> list[dict[str, Any]]:
    """Say of each attack on money what share of a cap was charged and billed, at most."""
    rows = []
    for attack in attacks:
        users = attack["users"]
        used: dict[str, list[float]] = defaultdict(list)
        for user in users:
            used["charged"].append(charged.get(user, 0) / cap)
            used["billed"].append(billed.get(user, 0) / cap)
        row = {"name": attack["name"], "budgets": len(users)}
        shares = {f"{what}_most": round(max(shares), 4) for what, shares in used.items()}
        rows.append(row | shares | {"statuses": attack["statuses"]})
    return rows


def broken(results: Mapping[str, Any]) -> list[str]:
    """List the promises that were not held."""
    found = [
        f"/health took {row['health_max_ms']:g} ms, and {row['cpu_max_ms']:g} ms of CPU time at "
        f"most, during: {row['name']}"
        for row in results["availability"]
        if row["health_max_ms"] > 1000 * SLOWEST_HEALTH_S
    ]
    slowest_ms = results["health_ms"]["max"]
    if not found and slowest_ms > 1000 * SLOWEST_HEALTH_S:
        found.append(f"/health took {slowest_ms:g} ms between two attacks")
    grown_mb = results["memory_mb"]["end"] - results["memory_mb"]["start"]
    if grown_mb > MOST_GROWTH_MB:
        found.append(f"memory grew by {grown_mb:.0f} MB")
    found += [
        f"{row['billed_most']:.2f} of a cap was billed, {row['charged_most']:.2f} charged: "
        f"{row['name']}"
        for row in results["money"]
        if max(row["billed_most"], row["charged_most"]) > 1
    ]
    found += [
        f"a stream went on for {row['longest_s']:g} s, its deadline is {DEADLINE_S} s"
        for row in results["dripping"]
        if row["longest_s"] > DEADLINE_S + LATE_S
    ]
    rows = results["rows"]
    if rows["missing"]:
        found.append(f"{rows['missing']} of {rows['answers']} answers have no row")
    if results["health_failed"]:
        found.append(f"/health failed {results['health_failed']} times")
    return found


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as a Markdown table."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(row[column]) for column in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} x {name}" for name, count in sorted(value.items()))
    return str(value)
