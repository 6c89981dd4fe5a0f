"""Accuracies with intervals over seeds and questions, and differences paired by both."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.frontier import Interval, interval

Float64 = NDArray[np.float64]

DRAWS: Final = 2000


def right_answers(run: Mapping[str, Any], after: str) -> Float64:
    """Read a run's marks: the share of its models that were right; shape ``(kinds, questions)``."""
    models = run["marks"][after].values()
    right: Float64 = np.mean(
        [[list(map(int, row)) for row in marks.values()] for marks in models], axis=0
    )
    return right


def own_kinds(run: Mapping[str, Any], after: str) -> Float64:
    """Read what each client's own model gets right of its kind; shape ``(kinds, questions)``."""
    models: Mapping[str, Mapping[str, str]] = run["marks"][after]
    return np.array([list(map(int, marks[kind])) for kind, marks in models.items()], float)


def resample(right: Sequence[Float64], kinds: Sequence[int], seed: int = 0) -> Float64:
    """Draw seeds, and questions of each kind within them, with replacement.

    Args:
        right: Of each seed; shape ``(kinds, questions)``.
        kinds: Those to average over.
        seed: Two arms drawn with the same one are paired draw by draw.

    Returns:
        Mean accuracies; shape ``(DRAWS,)``.
    """
    rng = np.random.default_rng(seed)
    marks = np.stack(right)
    n_seeds, n_kinds, n_questions = marks.shape
    seeds = rng.integers(n_seeds, size=(DRAWS, n_seeds))
    questions = rng.integers(n_questions, size=(DRAWS, n_seeds, n_kinds, n_questions))
    drawn = marks[seeds[:, :, None, None], np.arange(n_kinds)[:, None], questions]
    means: Float64 = drawn[:, :, list(kinds)].mean(axis=(1, 2, 3))
    return means


def accuracy(right: Sequence[Float64], kinds: Sequence[int]) -> Interval:
    """Average over seeds, kinds and questions, with its interval."""
    return interval(float(np.stack(right)[:, list(kinds)].mean()), resample(right, kinds))


def difference(one: Sequence[Float64], other: Sequence[Float64], kinds: Sequence[int]) -> Interval:
    """How much more of `one` is right, paired by seed and question."""
    return accuracy([a - b for a, b in zip(one, other, strict=True)], kinds)
