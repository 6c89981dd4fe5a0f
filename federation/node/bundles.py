"""What a site tells of its rows, whoever asks and however often: bundles of similar ones.

Every answer to a coordinator is computed from a table in which no row of the log stands. Rows are
put into bundles of at least `least_rows` of the same models, near ones together, and each row is
replaced by its bundle: the mean quality, the mean cost, and a vector drawn about the mean vector.
So no question, nor the difference of two, is about fewer rows than a bundle has: not one with
boundaries that move, nor with weights made to single a row out. This is microaggregation
(Domingo-Ferrer and Mateo-Sanz 2002, doi 10.1109/69.979982); drawing about the mean is condensation
(Aggarwal and Yu 2004, doi 10.1007/978-3-540-24741-8_12).

A bundle stays as it was first made. Later rows make new ones as soon as there are enough of them,
so that the difference between two trainings is made of whole bundles too. A bundle of which a row
has left the log is dropped, and its other rows are never used again.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from federation.node.durable import write_durably
from router_models.estimators.arrays import SMALLEST_NORM
from router_models.evaluation.log_rows import LoggedRows
from router_models.rows import all_one, pivot, pivot_weight
from router_models.training.kmeans import normalize_rows
from router_models.types import Float32

DIGEST_BYTES: Final = 16
DIRECTION_STEPS: Final = 8
"""Of the power iteration; the direction need not be exact."""

MOST_ANSWERS: Final = 5
"""Of one query, in bundles of one model each: so there are fewer mean vectors than vectors."""

PER_ANSWER: Final = ("members", "model", "bundle")
FIGURES: Final = ("quality", "cost_usd", "weight")
PER_BUNDLE: Final = ("split", "mean", "deviation", *FIGURES)

Digests = NDArray[np.bytes_]


@dataclass(frozen=True, slots=True, eq=False)
class Bundles:
    """All bundles that a site ever told of and whose rows are still in its log.

    Attributes:
        models: The gateway's names of models.
        members: Digest of the query of each bundled answer; shape ``(n_answers,)``.
        model: Place of its model for each of these.
        bundle: Place of its bundle for each of these, -1 for one whose bundle was dropped.
        split: Place in `SPLITS` of each bundle; shape ``(n_bundles,)``.
        mean: Mean vector; shape ``(n_bundles, dimension)``.
        deviation: How far rows lie from the means of their bundles, over all bundles that were made
            at the same time; same shape.
        quality: Mean per model, NaN for a model that answered none; ``(n_bundles, n_models)``.
        cost_usd: The same of the cost.
        weight: The same of the answers' weights. Quality is a mean without them: by weight, one
            answer among ten light ones would be told.
    """

    models: tuple[str, ...]
    members: Digests
    model: NDArray[np.intp]
    bundle: NDArray[np.intp]
    split: NDArray[np.int8]
    mean: Float32
    deviation: Float32
    quality: Float32
    cost_usd: Float32
    weight: Float32

    @classmethod
    def none(cls, dimension: int) -> "Bundles":
        """Return no bundle."""
        vectors, figures = np.empty((0, dimension), np.float32), np.empty((0, 0), np.float32)
        members, places = np.empty(0, f"S{2 * DIGEST_BYTES}"), np.empty(0, np.intp)
        split = np.empty(0, np.int8)
        figured = dict.fromkeys(FIGURES, figures)
        return cls((), members, places, places, split, vectors, vectors, **figured)

    def updated(self, rows: LoggedRows, least_rows: int) -> "Bundles":
        """Drop bundles that lost a row or are too small, and make new ones of new answers."""
        wider = self._with_models(rows.models)
        digests, figures = _digests(rows.embeddings), _figures(rows, wider.models)
        answered = np.isfinite(figures[0])
        row_of = {digest: row for row, digest in enumerate(digests.tolist())}
        row = np.array([row_of.get(digest, -1) for digest in wider.members.tolist()], np.intp)
        is_there = row >= 0
        is_there[is_there] = answered[row[is_there], wider.model[is_there]]
        kept = wider._without_lost(is_there, least_rows)  # noqa: SLF001
        is_told = np.zeros_like(answered)
        is_told[row[is_there], kept.model] = True
        units = _Units.of(answered, is_told, rows.split, least_rows)
        return kept._with_new(rows.embeddings, figures, digests, units)  # noqa: SLF001

    def rows(self) -> LoggedRows:
        """Return the table that answers are computed from; the same bundles give the same one."""
        sizes = self._sizes()
        bundle = np.repeat(np.arange(len(sizes)), sizes)
        scatter = np.random.default_rng(0).standard_normal((len(bundle), self.mean.shape[1]))
        if len(bundle):
            # Vectors of a bundle add up to what its rows add up to.
            scatter -= (_sums(scatter, bundle) / sizes[:, None])[bundle]
        query, model = np.nonzero(np.isfinite(self.quality[bundle]))
        weight = self.weight[bundle[query], model]
        return LoggedRows(
            (self.mean[bundle] + scatter * self.deviation[bundle]).astype(np.float32),
            self.split[bundle],
            self.models,
            query,
            model,
            self.quality[bundle[query], model],
            self.cost_usd[bundle[query], model],
            np.empty(0, np.intp),
            np.empty((0, len(self.models)), np.float32),
            weight=None if all_one(weight) else weight,
        )

    def _sizes(self) -> NDArray[np.intp]:
        answers = np.bincount(self.bundle[self.bundle >= 0], minlength=len(self.split))
        sizes: NDArray[np.intp] = answers // np.maximum(np.isfinite(self.quality).sum(axis=1), 1)
        return sizes

    def _with_models(self, names: tuple[str, ...]) -> "Bundles":
        models = self.models + tuple(name for name in names if name not in self.models)
        wider = ((0, 0), (0, len(models) - len(self.models)))
        figures = {
            name: np.pad(getattr(self, name), wider, constant_values=np.nan) for name in FIGURES
        }
        return replace(self, models=models, **figures)

    def _without_lost(self, is_there: NDArray[np.bool_], least_rows: int) -> "Bundles":
        n_bundles, lost = len(self.split), self.bundle[~is_there]
        is_whole = (self._sizes() >= least_rows) & ~np.isin(np.arange(n_bundles), lost)
        place = np.append(np.where(is_whole, np.cumsum(is_whole) - 1, -1), -1)
        return replace(
            self,
            members=self.members[is_there],
            model=self.model[is_there],
            bundle=place[self.bundle[is_there]].astype(np.intp),
            **{name: getattr(self, name)[is_whole] for name in PER_BUNDLE},
        )

    def _with_new(
        self,
        embeddings: Float32,
        figures: Sequence[Float32],
        digests: Digests,
        units: "_Units",
    ) -> "Bundles":
        parts = units.bundled(normalize_rows(embeddings))
        if not parts:
            return self
        of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        unit = np.concatenate(parts)
        query, models = units.query[unit], units.models[unit]
        sizes = np.bincount(of)[:, None]
        mean = _sums(embeddings[query], of) / sizes
        spread = ((embeddings[query] - mean[of]) ** 2).sum(axis=0)
        # A bundle of n rows has n - 1 directions to deviate in, its made-up rows too.
        deviation = np.sqrt(spread / max(len(query) - len(parts), 1)).astype(np.float32)
        means = [
            (_sums(np.where(models, each[query], np.nan), of) / sizes).astype(np.float32)
            for each in figures
        ]
        answer, model = np.nonzero(models)
        added = {
            "members": digests[query[answer]],
            "model": model,
            "bundle": of[answer] + len(self.split),
            "split": units.split[[part[0] for part in parts]],
            "mean": mean.astype(np.float32),
            "deviation": np.tile(deviation, (len(parts), 1)),
            **dict(zip(FIGURES, means, strict=True)),
        }
        joined = {n: np.concatenate([getattr(self, n), new]) for n, new in added.items()}
        return replace(self, **cast("dict[str, Any]", joined))


@dataclass(frozen=True, slots=True, eq=False)
class _Units:
    """What goes into a bundle as a whole: answers to one query.

    Attributes:
        query: Place of the query for each unit; shape ``(n_units,)``.
        models: Whose answers; shape ``(n_units, n_models)``.
        split: Of the query.
        least_rows: Units of a bundle.
    """

    query: NDArray[np.intp]
    models: NDArray[np.bool_]
    split: NDArray[np.int8]
    least_rows: int

    @classmethod
    def of(
        cls,
        answered: NDArray[np.bool_],
        is_told: NDArray[np.bool_],
        split: NDArray[np.int8],
        least_rows: int,
    ) -> "_Units":
        """Take answers that were not told of yet.

        A query keeps its answers together if enough others were answered by the same models. The
        others' answers go apart, and those of models that have fewest come first.
        """
        new = answered & ~is_told
        patterns = np.column_stack([split, new])
        _, pattern, counts = np.unique(patterns, axis=0, return_inverse=True, return_counts=True)
        is_common = (counts[pattern.ravel()] >= least_rows) & ~is_told.any(axis=1)
        rarity = np.where(new, new.sum(axis=0), len(new) + 1).argsort(axis=1, kind="stable")
        rank = rarity.argsort(axis=1, kind="stable")
        is_kept = new & (rank < MOST_ANSWERS - is_told.sum(axis=1, keepdims=True))
        whole = np.flatnonzero(is_common & new.any(axis=1))
        apart, model = np.nonzero(is_kept & ~is_common[:, None])
        query = np.concatenate([whole, apart])
        models = np.concatenate([new[whole], np.eye(new.shape[1], dtype=bool)[model]])
        return cls(query, models, split[query], least_rows)

    def bundled(self, unit_rows: Float32) -> list[NDArray[np.intp]]:
        """Put units of the same models and split together, near ones; others are left out."""
        kinds = np.column_stack([self.split, self.models])
        _, kind = np.unique(kinds, axis=0, return_inverse=True)
        same = (np.flatnonzero(kind.ravel() == each) for each in range(kind.max(initial=-1) + 1))
        vectors = unit_rows[self.query]
        return [part for units in same for part in _parts(vectors, units, self.least_rows)]


@dataclass(frozen=True, slots=True)
class BundleFile:
    """Remembers a site's bundles over trainings and restarts; one process writes it.

    Attributes:
        path: In NumPy's own format; made when rows are read for the first time.
        encoder_id: Whose vectors they are of; bundles of another encoder's are forgotten.
    """

    path: Path
    encoder_id: str

    def update(self, rows: LoggedRows, least_rows: int) -> Bundles:
        """Return the bundles of these rows, and remember them before anything is told of them.

        Raises:
            OSError: They cannot be remembered, so nothing may be told.
        """
        known = self._read() or Bundles.none(rows.embeddings.shape[1])
        bundles = known.updated(rows, least_rows)
        arrays = {name: getattr(bundles, name) for name in (*PER_ANSWER, *PER_BUNDLE)}
        packed = io.BytesIO()
        np.savez(packed, encoder_id=self.encoder_id, models=np.array(bundles.models, str), **arrays)
        write_durably(self.path, packed.getvalue())
        return bundles

    def _read(self) -> Bundles | None:
        if not self.path.exists():
            return None
        with np.load(self.path, allow_pickle=False) as stored:
            if str(stored["encoder_id"]) != self.encoder_id:
                return None
            names = (*PER_ANSWER, *PER_BUNDLE)
            arrays = {name: stored[name] for name in names if name in stored}
            # A file of an earlier version holds no weights: every answer counted as one.
            arrays.setdefault("weight", np.where(np.isfinite(arrays["quality"]), 1.0, np.nan))
            return Bundles(models=tuple(stored["models"].tolist()), **arrays)


def _digests(embeddings: Float32) -> Digests:
    """Return what a query is known by: its vector, as equal queries have equal ones."""
    digests = [blake2b(row.tobytes(), digest_size=DIGEST_BYTES).hexdigest() for row in embeddings]
    return np.array(digests, f"S{2 * DIGEST_BYTES}")


def _figures(rows: LoggedRows, models: tuple[str, ...]) -> tuple[Float32, Float32, Float32]:
    """Lay `FIGURES` out by query and model."""
    column = np.array([models.index(name) for name in rows.models], np.intp)[rows.model]
    shape = (len(rows.embeddings), len(models))
    weight = np.ones(len(rows.score), np.float32) if rows.weight is None else rows.weight
    return (
        *pivot(rows.query, column, rows.score, rows.cost_usd, shape),
        pivot_weight(rows.query, column, weight, shape),
    )


def _parts(embeddings: Float32, rows: NDArray[np.intp], least_rows: int) -> list[NDArray[np.intp]]:
    """Halve rows across their longest direction until parts have fewer than twice `least_rows`."""
    n_parts = len(rows) // least_rows
    if n_parts == 0:
        return []
    if n_parts == 1:
        return [rows]
    centred = embeddings[rows] - embeddings[rows].mean(axis=0)
    direction = centred[np.linalg.norm(centred, axis=1).argmax()]
    for _ in range(DIRECTION_STEPS):
        direction = centred.T @ (centred @ direction)
        direction = direction / max(float(np.linalg.norm(direction)), SMALLEST_NORM)
    ordered = rows[np.argsort(centred @ direction, kind="stable")]
    middle = len(rows) * (n_parts // 2) // n_parts
    halves = ordered[:middle], ordered[middle:]
    return [part for half in halves for part in _parts(embeddings, half, least_rows)]


def _sums(values: NDArray[np.floating], group: NDArray[np.intp]) -> NDArray[np.float64]:
    sums = np.zeros((group.max() + 1, values.shape[1]))
    np.add.at(sums, group, values)
    return sums
