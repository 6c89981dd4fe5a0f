"""The evaluation log of a gateway, read once into arrays to learn from and to measure on."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts.registry import ModelRegistry
from router_models.encoders.request_shape import WIDTH
from router_models.estimators.arrays import fit_width
from router_models.evaluation.off_policy import LoggedChoices
from router_models.pricing import Prompts, implied_prices, uncounted_models
from router_models.rows import all_one, pivot, pivot_weight
from router_models.types import Evaluations, Float32, Float64, TokenCounts

SPLITS: Final = ("train", "val", "test")
DRAWN: Final = frozenset({"router", "explored"})
"""Why a model answered, where a router drew it with the propensity that was logged."""
SHADOW: Final = "shadow"
"""Why a model gave a second answer. It was drawn to be learned from, among those that had not been
chosen, so routers are trained on it and none is measured on it: with it a query would have answers
of the model that the serving router prefers and of one that it does not, and no other."""


class LogRow(Protocol):
    """One graded answer; `gateway.evaluation_log.log_export.EvaluationRow` is one."""

    @property
    def query_id(self) -> str:
        """Equal queries have equal ids."""
        ...

    @property
    def query_embedding(self) -> Float32 | None:
        """Vector of the query."""
        ...

    @property
    def model(self) -> str | None:
        """What answered, by this gateway's name."""
        ...

    @property
    def score(self) -> float | None:
        """Quality, 0 to 1."""
        ...

    @property
    def score_weight(self) -> float | None:
        """How much that says of the answer, 0 to 1; None counts as 1."""
        ...

    @property
    def cost_usd(self) -> float | None:
        """USD for the call."""
        ...

    @property
    def prompt_tokens(self) -> int | None:
        """Of the call."""
        ...

    @property
    def completion_tokens(self) -> int | None:
        """Of the call."""
        ...

    @property
    def split(self) -> str:
        """``train``, ``val`` or ``test``, the same for equal queries."""
        ...

    @property
    def route_reason(self) -> str:
        """Why this model was chosen."""
        ...

    @property
    def chosen_model(self) -> str | None:
        """What was asked first; another than `model` after a fallback."""
        ...

    @property
    def candidates(self) -> str:
        """JSON: which models could have answered, with their propensities."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LoggedRows:
    """Graded answers in columns: one vector per query, four numbers per answer.

    Attributes:
        embeddings: Of the distinct queries; shape ``(n_queries, dimension)``.
        split: Place in `SPLITS` of each query; shape ``(n_queries,)``.
        models: This gateway's names of models.
        query: Place of its query for each answer; shape ``(n_answers,)``.
        model: Place of its model for each answer; same shape.
        score: Quality of each answer; same shape.
        cost_usd: Cost of each answer; same shape.
        drawn: Answers of split ``test`` whose model was drawn at random.
        propensities: Of every model for each of these, 0 where it was not offered or had no chance;
            shape ``(n_drawn, n_models)``.
        tokens: Of prompt and completion of each answer, NaN where unknown; shape
            ``(2, n_answers)``; None where too many answers of some model lack them.
        prices: USD per token of a prompt and of a completion, as `tokens` and costs imply; shape
            ``(2, n_models)``; None without tokens.
        weight: How much is learned from each answer, above 0 and at most 1; shape
            ``(n_answers,)``; None where that is 1 for all.
        could_answer: Which models were offered for the drawn answers; same shape as `propensities`.
            None where all that were offered had a chance.
    """

    embeddings: Float32
    split: NDArray[np.int8]
    models: tuple[str, ...]
    query: NDArray[np.intp]
    model: NDArray[np.intp]
    score: Float32
    cost_usd: Float32
    drawn: NDArray[np.intp]
    propensities: Float32
    tokens: Float32 | None = None
    prices: Float64 | None = None
    weight: Float32 | None = None
    could_answer: NDArray[np.bool_] | None = None

    def evaluations(
        self, split: str, columns: Sequence[str], registry: ModelRegistry
    ) -> Evaluations:
        """Return the queries of `split` that a model of `columns` answered."""
        column_of = {name: column for column, name in enumerate(columns)}
        to_column = [column_of.get(registry.canonical(name), -1) for name in self.models]
        column = np.array([*to_column, -1], np.intp)[self.model]
        answers = np.flatnonzero((column >= 0) & (self.split[self.query] == SPLITS.index(split)))
        queries, row = np.unique(self.query[answers], return_inverse=True)
        at, shape = (row.astype(np.intp), column[answers]), (len(queries), len(columns))
        weight = None if self.weight is None else self.weight[answers]
        quality, cost_usd = pivot(*at, self.score[answers], self.cost_usd[answers], shape, weight)
        tokens = None
        if self.tokens is not None and self.prices is not None:
            prompt, completion = self.tokens
            counts = pivot(*at, prompt[answers], completion[answers], shape)
            tokens = TokenCounts(*counts, _prices_of_columns(self.prices, to_column, len(columns)))
        found = Evaluations(self.embeddings[queries], quality, cost_usd, tuple(columns))
        counted = None if weight is None else pivot_weight(*at, weight, shape)
        return replace(found, tokens=tokens, weight=counted)

    def of_texts(self, dimension: int) -> "LoggedRows":
        """Leave of every query its text, the first `dimension` features; equal texts become one."""
        texts = np.ascontiguousarray(self.embeddings[:, :dimension])
        places: dict[bytes, int] = {}
        place = np.array([places.setdefault(t.tobytes(), len(places)) for t in texts], np.intp)
        _, first = np.unique(place, return_index=True)
        return replace(
            self, embeddings=texts[first], split=self.split[first], query=place[self.query]
        )

    def without_models(self, names: Collection[str]) -> "LoggedRows":
        """Leave out answers of some models, and every choice that was drawn."""
        is_kept = np.array([name not in names for name in self.models], bool)
        answers = np.flatnonzero(is_kept[self.model])
        return replace(
            self,
            models=tuple(name for name in self.models if name not in names),
            query=self.query[answers],
            model=(np.cumsum(is_kept) - 1)[self.model[answers]],
            score=self.score[answers],
            cost_usd=self.cost_usd[answers],
            tokens=None if self.tokens is None else self.tokens[:, answers],
            prices=None if self.prices is None else self.prices[:, is_kept],
            weight=None if self.weight is None else self.weight[answers],
            drawn=self.drawn[:0],
            propensities=self.propensities[:0, is_kept],
            could_answer=None,
        )

    def latest(self, answers: int) -> "LoggedRows":
        """Keep the last answers that were read, which are the latest where rows came in order."""
        start = max(len(self.query) - answers, 0)
        is_drawn = self.drawn >= start
        return replace(
            self,
            query=self.query[start:],
            model=self.model[start:],
            score=self.score[start:],
            cost_usd=self.cost_usd[start:],
            tokens=None if self.tokens is None else self.tokens[:, start:],
            weight=None if self.weight is None else self.weight[start:],
            drawn=self.drawn[is_drawn] - start,
            propensities=self.propensities[is_drawn],
            could_answer=None if self.could_answer is None else self.could_answer[is_drawn],
        )

    def weighed(self, factor: Float64) -> "LoggedRows":
        """Let each answer count for that much less; `factor` is above 0 and at most 1."""
        weight = factor if self.weight is None else self.weight * factor
        return replace(self, weight=weight.astype(np.float32))

    def choices(self) -> LoggedChoices:
        """Return the answers of split ``test`` that any model might have been drawn to give."""
        found = self.all_choices()
        if found.could_answer is None:
            return found
        is_closed = (found.could_answer & (found.propensity <= 0)).any(axis=1)
        return replace(found.select(np.flatnonzero(~is_closed)), could_answer=None)

    def all_choices(self) -> LoggedChoices:
        """Return the drawn answers of split ``test``, though some models had no chance."""
        return LoggedChoices(
            self.embeddings[self.query[self.drawn]],
            self.model[self.drawn],
            self.score[self.drawn],
            self.cost_usd[self.drawn],
            self.propensities,
            self.models,
            self.query[self.drawn],
            self._prompts(),
            self.could_answer,
        )

    def _prompts(self) -> Prompts | None:
        """Say what models would charge for the prompts of the drawn answers."""
        if self.tokens is None or self.prices is None:
            return None
        counted = self.tokens[0]
        mean = np.nanmean(counted) if np.isfinite(counted).any() else np.float32(0.0)
        tokens = counted[self.drawn]
        return Prompts(np.where(np.isfinite(tokens), tokens, mean)[:, None], self.prices)


def read_log_rows(
    batches: Iterable[Sequence[LogRow]],
    dimension: int,
    most_rows: int,
    *,
    is_shared: bool = False,
) -> LoggedRows:
    """Read rows until there are `most_rows`; what cannot be learned from is left out.

    Vectors of texts alone are filled up with zeros where `dimension` is that of whole requests.

    Args:
        is_shared: The rows are to compare two routers that shared the turns among them.
    """
    # Pages of memory that no row is written to are never taken.
    embeddings = np.empty((most_rows, dimension), np.float32)
    gathering = _LogRowReader(embeddings, is_shared=is_shared)
    for row in _usable(batches, dimension):
        gathering.add(row)
        if len(gathering.query) == most_rows:
            break
    return gathering.rows()


def _prices_of_columns(prices: Float64, columns: Sequence[int], n_columns: int) -> Float64:
    """Move prices to other columns, -1 for none; a model without rows gets the highest of any."""
    moved = np.repeat(prices.max(axis=1, keepdims=True, initial=0.0), n_columns, axis=1)
    for place, column in enumerate(columns):
        if column >= 0:
            moved[:, column] = prices[:, place]
    return moved


def _usable(batches: Iterable[Sequence[LogRow]], dimension: int) -> Iterator[LogRow]:
    for batch in batches:
        for row in batch:
            vector = row.query_embedding
            score, cost_usd = row.score, row.cost_usd
            weight = 1.0 if row.score_weight is None else row.score_weight
            if row.model is None or vector is None or score is None or cost_usd is None:
                continue
            if row.route_reason == SHADOW and row.split == "test":
                continue
            is_possible = 0.0 <= score <= 1.0 and 0.0 <= cost_usd < inf and 0.0 < weight <= 1.0
            is_fitting = vector.shape in ((dimension,), (dimension - WIDTH,))
            if is_possible and is_fitting and np.isfinite(vector).all():
                yield row


@dataclass(slots=True, eq=False)
class _LogRowReader:
    """What was read so far."""

    embeddings: Float32
    splits: list[int] = field(default_factory=list)
    query_of: dict[str, int] = field(default_factory=dict)
    model_of: dict[str, int] = field(default_factory=dict)
    query: list[int] = field(default_factory=list)
    model: list[int] = field(default_factory=list)
    figures: list[tuple[Any, ...]] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    drawn: list[int] = field(default_factory=list)
    propensities: list[Float32] = field(default_factory=list)
    could_answer: list[NDArray[np.bool_]] = field(default_factory=list)
    is_shared: bool = False

    def add(self, row: LogRow) -> None:
        place = self.query_of.setdefault(row.query_id, len(self.query_of))
        if place == len(self.splits):
            vector = np.asarray(row.query_embedding)
            self.embeddings[place] = fit_width(vector, self.embeddings.shape[1])
            self.splits.append(SPLITS.index(row.split))
        self.query.append(place)
        self.model.append(self._place(str(row.model)))
        self.figures.append((row.score, row.cost_usd, row.prompt_tokens, row.completion_tokens))
        self.weight.append(1.0 if row.score_weight is None else row.score_weight)
        is_drawn = row.route_reason in DRAWN and row.chosen_model == row.model
        if is_drawn and row.split == "test":
            self._add_propensities(row)

    def _add_propensities(self, row: LogRow) -> None:
        """Keep the propensities where at least two models could answer.

        Where two routers decided by chance, keep those of the models that had one: routers are
        then compared in what they make of these, which is nothing where there is one alone.
        """
        candidates = json.loads(row.candidates)
        offered = {c["model"]: c["propensity"] for c in candidates if c["is_eligible"]}
        least = 2
        if self.is_shared:
            offered, least = {model: odds for model, odds in offered.items() if odds > 0}, 1
        if len(offered) < least or offered.get(str(row.model), 0.0) <= 0:
            return
        places = [self._place(name) for name in offered]
        propensities = np.zeros(len(self.model_of), np.float32)
        propensities[places] = list(offered.values())
        could_answer = np.zeros(len(self.model_of), bool)
        could_answer[places] = True
        self.drawn.append(len(self.query) - 1)
        self.propensities.append(propensities)
        self.could_answer.append(could_answer)

    def _place(self, model: str) -> int:
        return self.model_of.setdefault(model, len(self.model_of))

    def rows(self) -> LoggedRows:
        propensities = np.zeros((len(self.propensities), len(self.model_of)), np.float32)
        could_answer = np.zeros(propensities.shape, bool)
        for place, (odds, offered) in enumerate(
            zip(self.propensities, self.could_answer, strict=True)
        ):
            propensities[place, : len(odds)] = odds
            could_answer[place, : len(odds)] = offered
        has_closed = bool((could_answer & (propensities <= 0)).any())
        figures = np.array(self.figures, np.float64).reshape(-1, 4).T
        score, cost_usd, prompt, completion = figures
        model = np.array(self.model, np.intp)
        n_models = len(self.model_of)
        is_counted = not len(uncounted_models(model, prompt, completion, n_models))
        weight = np.array(self.weight, np.float32)
        return LoggedRows(
            self.embeddings[: len(self.splits)],
            np.array(self.splits, np.int8),
            tuple(self.model_of),
            np.array(self.query, np.intp),
            model,
            score.astype(np.float32),
            cost_usd.astype(np.float32),
            np.array(self.drawn, np.intp),
            propensities,
            np.stack([prompt, completion]).astype(np.float32) if is_counted else None,
            implied_prices(model, prompt, completion, cost_usd, n_models) if is_counted else None,
            None if all_one(weight) else weight,
            could_answer if has_closed else None,
        )
