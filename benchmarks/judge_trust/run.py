"""What a judge adds to a few trusted grades, and how soon a changed one is found, in simulation.

`python -m benchmarks.judge_trust.run` prints the tables of the README and writes `results.json`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.judges import RECENT, drifts, estimate_mean, measure_judge

RESULTS = Path(__file__).parent / "results.json"
DRAWS = 2_000
N_JUDGED = 500
TRUE_MEAN = 2 / 3
JUDGES = {"good": 0.1, "fair": 0.25, "random": 10.0}
"""Standard deviation of the noise that each adds to the true quality."""
BIAS = 0.15
Float64 = NDArray[np.float64]


def graded(rng: np.random.Generator, n_answers: int, noise: float) -> tuple[Float64, Float64]:
    """Draw true qualities of answers, and what a judge that is too kind says of them."""
    truth = rng.beta(3.0, 1.5, n_answers)
    judged = np.clip(truth + BIAS + rng.normal(0.0, noise, n_answers), 0.0, 1.0)
    return truth, judged


def means() -> Iterator[dict[str, Any]]:
    """Measure the intervals of a mean, from trusted grades alone and with a judge."""
    for judge, noise in JUDGES.items():
        for n_pairs in (10, 40, 160):
            rng = np.random.default_rng(n_pairs)
            held, width, alone, raw = [], [], [], []
            for _ in range(DRAWS):
                truth, judged = graded(rng, n_pairs + N_JUDGED, noise)
                pairs = truth[:n_pairs], judged[:n_pairs]
                found, trusted = estimate_mean(*pairs, judged[n_pairs:]), estimate_mean(*pairs, [])
                assert found is not None
                assert trusted is not None
                held.append(found.low <= TRUE_MEAN <= found.high)
                width.append(found.high - found.low)
                alone.append(trusted.high - trusted.low)
                raw.append(judged.mean() - TRUE_MEAN)
            yield {
                "judge": judge,
                "trusted": n_pairs,
                "coverage": float(np.mean(held)),
                "width": float(np.mean(width) / np.mean(alone)),
                "bias_of_the_judge_alone": float(np.mean(raw)),
            }


def corrections() -> Iterator[dict[str, Any]]:
    """Measure the error of scores as they are, and corrected by some pairs."""
    for judge, noise in JUDGES.items():
        for n_pairs in (0, 10, 40, 160):
            rng = np.random.default_rng(n_pairs)
            before, after, weights = [], [], []
            for _ in range(DRAWS // 10):
                truth, judged = graded(rng, n_pairs + N_JUDGED, noise)
                quality = measure_judge(judged[:n_pairs].tolist(), truth[:n_pairs].tolist())
                better = [quality.correction(score) for score in judged[n_pairs:]]
                before.append(np.mean((judged[n_pairs:] - truth[n_pairs:]) ** 2))
                after.append(np.mean((better - truth[n_pairs:]) ** 2))
                weights.append(quality.weight)
            yield {
                "judge": judge,
                "trusted": n_pairs,
                "error": float(np.sqrt(np.mean(before))),
                "corrected": float(np.sqrt(np.mean(after))),
                "weight": float(np.mean(weights)),
            }


def changes() -> Iterator[dict[str, Any]]:
    """Count the pairs after a change of the bias until it is found, with a look after each."""
    for shift in (0.0, 0.1, 0.2, 0.4):
        rng = np.random.default_rng(0)
        delays = []
        for _ in range(DRAWS // 10):
            truth, judged = graded(rng, 350, JUDGES["fair"])
            errors = judged - truth
            errors[200:] -= shift
            looks = (n for n in range(1, 151) if drifts(errors[n : 200 + n]))
            delays.append(next(looks, 151))
        yield {
            "shift": shift,
            "found": float(np.mean(np.array(delays) <= 150)),
            "median_pairs": float(np.median(delays)),
        }


def main() -> None:
    """Measure, print and write."""
    found = {
        "draws": DRAWS,
        "recent": RECENT,
        "means": list(means()),
        "corrections": list(corrections()),
        "changes": list(changes()),
    }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for name in ("means", "corrections", "changes"):
        print(name)
        for row in found[name]:  # type: ignore[attr-defined]
            cells = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values())
            print("  " + "  ".join(f"{cell:>8}" for cell in cells))


if __name__ == "__main__":
    main()
