"""Clipping and Gaussian noise for everything that is a sum over queries.

A sum over queries is private once no query can move it far and noise hides how far one did. What
one query adds is computed from that query alone, then each array of it is shortened to a bound that
is known to everybody.

Sensitivity: let two logs differ in one query. Divided by its bound, each of the query's n arrays is
at most 1 long once it is clipped, so all n together are at most ``sqrt(n)`` long, and that is the
most by which the divided sums differ. Noise of deviation ``noise_multiplier * sqrt(n)`` on every
value of them is the Gaussian mechanism with that multiplier (Dwork and Roth 2014, doi
10.1561/0400000042, appendix A), which is what `federation.privacy.accounting` charges for.
Multiplying by the bounds again looks at no row.
"""

from collections.abc import Callable, Mapping
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from router_models.statistics import select
from router_models.types import Arrays, Evaluations, Float32

Float64 = NDArray[np.float64]
Gather = Callable[[Evaluations], Arrays]
"""Adds up rows; what it makes of many must be the sum of what it makes of each."""

Bounds = Mapping[str, float | Float64]
"""Per array: the longest it may be for one query; or what to divide each column by before."""


def clipped_sums(gather: Gather, evaluations: Evaluations, bounds: Bounds) -> dict[str, Float64]:
    """Add up what each query adds, every array of it shortened to its bound.

    Args:
        gather: Makes the sums; is called with one query at a time.
        evaluations: May hold no query at all.
        bounds: For exactly the arrays that `gather` returns; all above 0.

    Raises:
        ValueError: An array has no bound, or a bound no array.
    """
    empty = gather(select(evaluations, np.arange(0)))
    if set(empty) != set(bounds):
        raise ValueError(f"bounds for {sorted(bounds)}, but arrays {sorted(empty)} would leave")
    totals = {name: np.zeros(array.shape) for name, array in empty.items()}
    for row in range(len(evaluations.embeddings)):
        for name, array in gather(select(evaluations, np.array([row]))).items():
            totals[name] += array / max(1.0, float(np.linalg.norm(array / bounds[name])))
    return totals


def add_noise(
    sums: Arrays,
    bounds: Bounds,
    noise_multiplier: float,
    rng: np.random.Generator,
    sharers: int = 1,
) -> dict[str, Float64]:
    """Put noise on sums that were clipped to the same bounds.

    Args:
        sums: From `clipped_sums`.
        bounds: As there.
        noise_multiplier: Of the noise in the sum of all sharers.
        rng: Must not be known to whoever receives the sums.
        sharers: How many clients' noise adds up before anybody sees it, in a secure sum; each then
            adds its part of the variance.
    """
    share = noise_multiplier * sqrt(len(bounds)) / sqrt(sharers)
    return {
        name: array + rng.normal(0.0, share, np.shape(array)) * bounds[name]
        for name, array in sums.items()
    }


def random_centroids(n_directions: int, dimension: int, seed: int) -> Float32:
    """Draw centroids that nobody's rows had a part in; of length 1, shape as `cluster`'s.

    Noisy K-means costs more privacy than it is worth at some 350 queries a site: one to three
    noisy steps of Lloyd's algorithm, with the budget split accordingly, routed no better than these
    on llmrouter_ulab and worse on reasoning_gym (benchmarks/federation_attacks).
    """
    drawn = np.random.default_rng(seed).normal(size=(n_directions, dimension))
    unit: Float32 = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit
