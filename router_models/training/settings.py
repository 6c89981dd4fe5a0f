"""What each estimator can be trained with, and the settings that tuning tries."""

import itertools
from dataclasses import dataclass, replace

import numpy as np

TRIALS = 48
"""Settings tried per kind: the same for every one, so that no baseline is starved. The network's
trials have no fit in common, so it gets 16: they take longer than 48 of any other kind."""


@dataclass(frozen=True, slots=True)
class KMeansSettings:
    """How to cluster, and how to mix the clusters.

    Attributes:
        clusterings: How many clusterings lie over each other: into `n_clusters`, half as many, a
            quarter, and so on. The best size differs between logs, and choosing it is noisy.
    """

    n_clusters: int = 64
    standardized: bool = False
    prior_rows: float = 10.0
    temperature: float = 0.05
    clusterings: int = 1

    @property
    def layers(self) -> tuple["KMeansSettings", ...]:
        """Settings of each clustering alone."""
        sizes = [max(self.n_clusters >> layer, 1) for layer in range(self.clusterings)]
        return tuple([replace(self, n_clusters=size, clusterings=1) for size in sizes])


@dataclass(frozen=True, slots=True)
class MlpSettings:
    """How to build and train the network; the paper has hidden 512, rate 1e-3, decay 3e-4."""

    hidden: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 3e-4
    dropout: float = 0.1
    max_epochs: int = 60
    patience: int = 8
    batch_size: int = 128


@dataclass(frozen=True, slots=True)
class KnnSettings:
    """How many neighbours count."""

    neighbours: int = 32
    standardized: bool = True
    prior_rows: float = 1.0


@dataclass(frozen=True, slots=True)
class RidgeSettings:
    """How strongly weights are pulled to 0, in rows."""

    alpha: float = 100.0


Settings = KMeansSettings | MlpSettings | KnnSettings | RidgeSettings

KINDS: dict[str, type[Settings]] = {
    "kmeans": KMeansSettings,
    "mlp": MlpSettings,
    "knn": KnnSettings,
    "ridge": RidgeSettings,
}

DEFAULTS: frozenset[Settings] = frozenset({KMeansSettings(n_clusters=128, clusterings=4)})
"""Kept unless another candidate of the kind is better by more than a standard error: on logs of one
answer per query the best by value is mostly the luckiest."""

AUTO = "auto"
"""Stands for the best of several kinds and the averages of two of them."""


@dataclass(frozen=True, slots=True)
class AverageSettings:
    """Two kinds learn from the same rows, and half of each prediction counts."""

    parts: tuple[Settings, Settings]


def kinds_of(settings: Settings | AverageSettings) -> dict[str, Settings]:
    """Name settings by their kind; those of an average have two."""
    parts = settings.parts if isinstance(settings, AverageSettings) else (settings,)
    names = {made: kind for kind, made in KINDS.items()}
    return {names[type(part)]: part for part in parts}


def candidates(kind: str) -> list[Settings]:
    """Settings for tuning to try, `TRIALS` of them, of the network 16.

    Raises:
        ValueError: There is no such kind.
    """
    product = itertools.product
    if kind == "kmeans":
        forms = ((64, False, 3), (128, False, 3), (128, False, 4), (128, True, 3))
        mixing = list(product((3.0, 10.0, 30.0), (0.02, 0.05, 0.1, 0.2)))
        return [
            KMeansSettings(n_clusters, standardized, *values, clusterings)
            for n_clusters, standardized, clusterings in forms
            for values in mixing
        ]
    if kind == "mlp":
        nets = product((128, 256), (1e-3, 3e-3), (3e-4, 3e-2), (0.1, 0.3))
        return [MlpSettings(*values) for values in nets]
    if kind == "knn":
        near = product((8, 16, 24, 32, 64, 128), (False, True), (1.0, 3.0, 10.0, 30.0))
        return [KnnSettings(*values) for values in near]
    if kind == "ridge":
        return [RidgeSettings(float(alpha)) for alpha in np.geomspace(30.0, 1e6, TRIALS)]
    raise ValueError(f"unknown kind {kind!r}; known kinds: {', '.join(KINDS)}")


def auto_candidates() -> list[list[Settings]]:
    """Settings of each kind that `AUTO` compares, from the simplest kind on.

    Neither the network nor nearest neighbours decide within 60 µs. Of ridge every third: neighbours
    hardly differ, and each takes a solution for every model.
    """
    return [candidates("kmeans"), candidates("ridge")[::3]]
