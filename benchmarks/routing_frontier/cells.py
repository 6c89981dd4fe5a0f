"""What is learned from and what is measured: every combination of rows, answers, tasks and part."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.routing_frontier.protocol import Rows, labels_of
from gateway.commands.train import carve
from gateway.problems.datasets import Dataset
from router_models.evaluation.frontier import complete
from router_models.statistics import select, select_models
from router_models.types import Evaluations

PARTS: Final = 5

TENTH: Final = 0.1


@dataclass(frozen=True, slots=True)
class Protocol:
    """How rows to learn from differ from rows to be measured on.

    Attributes:
        tasks: ``known``: all queries are drawn alike. ``unseen``: no task is in both. ``harder``:
            learned from the tasks of higher mean quality, measured on the others.
        rows: All rows to learn from, or a tenth of them.
        answers: Every model answered each of them, or one model, drawn uniformly.
    """

    tasks: Literal["known", "unseen", "harder"]
    rows: Literal["all", "tenth"]
    answers: Literal["all", "one"]

    @property
    def name(self) -> str:
        """Name of its files and of its place in the results."""
        rows = "all rows" if self.rows == "all" else "a tenth of the rows"
        answers = "all answers" if self.answers == "all" else "one answer a query"
        return f"{self.tasks} tasks, {rows}, {answers}"


PROTOCOLS: Final = (
    Protocol("known", "all", "all"),
    Protocol("known", "all", "one"),
    Protocol("known", "tenth", "all"),
    Protocol("known", "tenth", "one"),
    Protocol("unseen", "all", "all"),
    Protocol("unseen", "all", "one"),
    Protocol("harder", "all", "all"),
    Protocol("harder", "all", "one"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One protocol with one fifth of the queries, or of the tasks, to be measured on.

    The parts of ``harder`` are measured on the same queries: they differ in what is drawn to learn
    from, and in the seed of the training.
    """

    protocol: Protocol
    part: int


def all_cells() -> Iterator[Cell]:
    """Part by part, so that what is done after an hour is a whole."""
    for part, protocol in itertools.product(range(PARTS), PROTOCOLS):
        yield Cell(protocol, part)


def split(name: str, dataset: Dataset, cell: Cell) -> Rows:
    """Return rows to learn from, rows to choose by, and complete rows to measure on."""
    rows = replace(dataset, tasks=labels_of(name, dataset)).evaluations()
    is_test = _is_test(rows, cell)
    test = complete(select(rows, np.flatnonzero(is_test)))
    learn = select(rows, np.flatnonzero(~is_test))
    kept = np.array([rows.models.index(model) for model in test.models], np.intp)
    learn = _thin(select_models(learn, kept), cell)
    return Rows(*carve(learn), test)


def _is_test(rows: Evaluations, cell: Cell) -> NDArray[np.bool_]:
    """Say which rows are measured on."""
    tasks = np.array(rows.tasks)
    if cell.protocol.tasks == "harder":
        return np.isin(tasks, _harder(rows, tasks))
    # Equal queries have equal vectors, and stay together.
    label, axis = (tasks, None) if cell.protocol.tasks == "unseen" else (rows.embeddings, 0)
    distinct, place = np.unique(label, return_inverse=True, axis=axis)
    part = np.random.default_rng(0).permutation(len(distinct)) % PARTS
    is_test: NDArray[np.bool_] = part[place.ravel()] == cell.part
    return is_test


def _harder(rows: Evaluations, tasks: NDArray[np.str_]) -> list[str]:
    """Name the tasks of the lowest mean quality that hold at most half of the queries."""
    names = sorted(set(tasks.tolist()))
    ease = {name: float(np.nanmean(rows.quality[tasks == name])) for name in names}
    chosen: list[str] = []
    for name in sorted(names, key=ease.__getitem__):
        if np.isin(tasks, [*chosen, name]).mean() > 0.5 and chosen:
            break
        chosen.append(name)
    return chosen


def _thin(learn: Evaluations, cell: Cell) -> Evaluations:
    """Keep a tenth of the rows, or one answer in each, as the protocol says."""
    rng = np.random.default_rng(cell.part)
    if cell.protocol.rows == "tenth":
        n_rows = len(learn.quality)
        learn = select(learn, np.sort(rng.permutation(n_rows)[: round(TENTH * n_rows)]))
    if cell.protocol.answers == "one":
        chance = np.where(np.isfinite(learn.quality), rng.random(learn.quality.shape), -1.0)
        is_asked = np.arange(len(learn.models)) == chance.argmax(axis=1)[:, None]
        learn = _keep(learn, is_asked)
    return learn


def _keep(learn: Evaluations, is_kept: NDArray[np.bool_]) -> Evaluations:
    """Take all other answers away."""
    nothing = np.float32(np.nan)
    quality, cost_usd = (
        np.where(is_kept, table, nothing) for table in (learn.quality, learn.cost_usd)
    )
    tokens = learn.tokens and replace(
        learn.tokens,
        prompt=np.where(is_kept, learn.tokens.prompt, nothing),
        completion=np.where(is_kept, learn.tokens.completion, nothing),
    )
    return replace(learn, quality=quality, cost_usd=cost_usd, tokens=tokens)
