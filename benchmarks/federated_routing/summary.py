"""From measured deals to the figures of results.json: means over seeds, intervals, and goals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.federated_routing.arms import CENTRALISED, FEDERATED, KINDS, LOCAL
from benchmarks.federated_routing.compare import MIXTURE, Deal
from benchmarks.federated_routing.measure import FIGURES, Measured, over_seeds

Figures = dict[str, dict[str, float]]
"""By figure: value, low and high."""

CLOSE = 0.01
"""What the goals allow."""


def summarise(deals: Sequence[Deal]) -> dict[str, Any]:
    """Sum up the deals of one set and alpha, one per seed."""
    return {
        "pooled": {kind: _pooled(deals, kind) for kind in KINDS},
        "references": {
            label: figures_of([deal.references[label] for deal in deals])
            for label in deals[0].references
        },
        "best_single_quality": float(np.mean([deal.best_single[0] for deal in deals])),
        "best_single_cost_usd": float(np.mean([deal.best_single[1] for deal in deals])),
        "differences": {kind: _differences(deals, kind) for kind in KINDS},
        "own": {kind: _own(deals, kind) for kind in KINDS},
        "frontiers": {
            label: [cost.tolist(), quality.tolist()]
            for label, (cost, quality) in deals[0].frontiers.items()
        },
    }


def figures_of(runs: Sequence[Measured]) -> Figures:
    """Mean over seeds with intervals over seeds and queries."""
    mean = over_seeds(list(runs), np.random.default_rng(0))
    return {name: asdict(mean.interval(index)) for index, name in enumerate(FIGURES)}


def _pooled(deals: Sequence[Deal], kind: str) -> dict[str, Figures]:
    return {
        arm: figures_of([deal.pooled[kind][arm] for deal in deals]) for arm in deals[0].pooled[kind]
    }


def _differences(deals: Sequence[Deal], kind: str) -> dict[str, Figures]:
    """Federated against the two others, paired by seed and query."""
    pooled = [deal.pooled[kind] for deal in deals]
    return {
        f"{FEDERATED} - {arm}": figures_of([one[FEDERATED] - one[arm] for one in pooled])
        for arm in (CENTRALISED, LOCAL)
    }


def _own(deals: Sequence[Deal], kind: str) -> dict[str, Any]:
    """Client by client on its own test rows: who wins, and by how much."""
    own = [deal.own[kind] for deal in deals]
    pairs = {
        f"{FEDERATED} - {LOCAL}": [
            ours - mine
            for one in own
            for ours, mine in zip(one[FEDERATED], one[LOCAL], strict=True)
        ],
        f"{MIXTURE} - {LOCAL}": [
            mixed - mine
            for one in own
            for mixed, mine in zip(one[MIXTURE], one[LOCAL], strict=True)
        ],
    }
    summary: dict[str, Any] = {
        "arms": {
            arm: {
                name: float(np.mean([m.values[index] for one in own for m in one[arm]]))
                for index, name in enumerate(FIGURES)
            }
            for arm in own[0]
        }
    }
    for label, differences in pairs.items():
        summary[label] = {name: _tally(differences, i) for i, name in enumerate(FIGURES)}
    gaps = {name: _mixture_gaps(own, index) for index, name in enumerate(FIGURES)}
    return {**summary, f"{MIXTURE} - better of both": gaps}


def _tally(differences: Sequence[Measured], figure: int) -> dict[str, Any]:
    """How many clients gain, and how many surely gain or lose (interval on one side of 0)."""
    found = [one.interval(figure) for one in differences]
    values = np.array([one.value for one in found])
    return {
        "clients": len(found),
        "better": int((values > 0).sum()),
        "surely_better": sum(one.low > 0 for one in found),
        "surely_worse": sum(one.high < 0 for one in found),
        "mean": float(values.mean()),
        "worst": float(values.min()),
        "each": [asdict(one) for one in found],
    }


def _mixture_gaps(own: Sequence[Mapping[str, Sequence[Measured]]], figure: int) -> dict[str, Any]:
    """The mixture against whichever of local and federated did better at a client."""
    gaps = []
    for one in own:
        for mine, ours, mixed in zip(one[LOCAL], one[FEDERATED], one[MIXTURE], strict=True):
            better = max(mine, ours, key=lambda measured: float(measured.values[figure]))
            gaps.append((mixed - better).interval(figure))
    values = np.array([gap.value for gap in gaps])
    return {
        "clients": len(gaps),
        "within": int((values >= -CLOSE).sum()),
        "surely_outside": sum(gap.high < -CLOSE for gap in gaps),
        "mean": float(values.mean()),
        "worst": float(values.min()),
    }
