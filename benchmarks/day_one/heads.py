"""Linear heads with a common penalty, chosen by leaving each row out."""

from typing import Final

import numpy as np

from router_models.day_one.belief import Float64
from router_models.types import Float32

PENALTIES: Final = tuple(np.geomspace(10.0, 3e4, 7).tolist())
"""In rows."""


def fit_heads(scaled: Float32, targets: Float64) -> tuple[Float32, Float64]:
    """Ridge regression of each column of `targets`.

    Args:
        scaled: Features of deviation 1; shape ``(n, dimension)``.
        targets: Shape ``(n, n_columns)``, nothing missing.

    Returns:
        Weights with the constant as last row, ``(dimension + 1, n_columns)``, and what each row is
        predicted to be by the other rows, shaped as `targets`.
    """
    centre, mean = scaled.mean(axis=0, dtype=np.float64), targets.mean(axis=0)
    rows = scaled.astype(np.float64) - centre
    eigenvalues, axes = np.linalg.eigh(rows.T @ rows)
    rotated = rows @ axes
    cross, squares = rotated.T @ (targets - mean), rotated**2
    least, chosen, held = np.inf, cross, targets
    for penalty in PENALTIES:
        shrunk = 1.0 / (np.maximum(eigenvalues, 0.0) + penalty)
        weights = cross * shrunk[:, None]
        leverage = np.minimum(squares @ shrunk + 1.0 / len(rows), 0.99)
        residual = (targets - mean - rotated @ weights) / (1.0 - leverage)[:, None]
        error = float((residual**2).mean())
        if error < least:
            least, chosen, held = error, weights, targets - residual
    weights = axes @ chosen
    return np.vstack([weights, mean - centre @ weights]).astype(np.float32), held
