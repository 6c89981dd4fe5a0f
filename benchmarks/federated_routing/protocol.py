"""Who holds which rows: the paper's split of one table over clients (arXiv 2601.22318, section 5).

Every query is dealt to a client, task by task; inside a client to train, validation or test. A
client's log keeps one model per query, drawn from the client's own habits; test rows keep all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.routing_frontier import protocol as frontier_protocol
from benchmarks.routing_frontier.protocol import labels_of
from gateway.problems.datasets import Dataset
from router_models.evaluation.frontier import complete
from router_models.statistics import select
from router_models.types import Encoder, Evaluations

CLIENTS: Final = 10
LOGGING_ALPHA: Final = 0.45
TEST_SHARE: Final = 0.25
VALIDATION_SHARE: Final = 0.15
"""Of the rows that are not for the test."""

LEAST_ROWS: Final = 60
"""A deal that leaves a client with fewer is drawn again: nobody joins with nothing to give."""

MOST_DEALS: Final = 10_000
NAMED: Final = ("llmrouter_ulab", "reasoning_gym", "mmlu_pro", "zeroeval")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a router is trained on and chosen by; one model per query in both."""

    train: Evaluations
    validation: Evaluations


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """One organisation.

    Attributes:
        rows: Its log.
        test: Every model's answer to every query.
        train_answers: Every model's answer to the train queries: nobody has seen these, unless an
            experiment says that a part of them was bought for calibration.
    """

    rows: Rows
    test: Evaluations
    train_answers: Evaluations


def read(folder: Path, name: str, encoder: Encoder) -> Evaluations:
    """Read and embed the queries of a set that every kept model answered.

    `name` is one of `NAMED`, or of any other table in the long form.
    """
    dataset = frontier_protocol.read(folder, name).embedded(encoder)
    return complete(replace(dataset, tasks=task_labels(name, dataset)).evaluations())


def task_labels(name: str, dataset: Dataset) -> tuple[str, ...]:
    """Task and domain of each query; the family for reasoning_gym, whose domains are few."""
    if name == "reasoning_gym":
        return labels_of(name, dataset)
    pairs = zip(dataset.tasks, dataset.domains, strict=True)
    return tuple(f"{task}/{domain}" for task, domain in pairs)


def deal(
    labels: Sequence[str], alpha: float, n_clients: int, rng: np.random.Generator, least_rows: int
) -> NDArray[np.intp]:
    """Give each query a client: every label's queries are split by a draw of Dirichlet(alpha).

    Raises:
        ValueError: No deal left every client with `least_rows`.
    """
    names = np.array(labels)
    of_label = [rng.permutation(np.flatnonzero(names == name)) for name in np.unique(names)]
    for _ in range(MOST_DEALS):
        owner = np.empty(len(names), np.intp)
        for rows in of_label:
            shares = rng.dirichlet(np.full(n_clients, alpha))
            ends = np.round(np.cumsum(shares) * len(rows)).astype(int)
            owner[rows] = np.searchsorted(ends, np.arange(len(rows)), side="right").clip(
                max=n_clients - 1
            )
        if np.bincount(owner, minlength=n_clients).min() >= least_rows:
            return owner
    raise ValueError(
        f"{len(names)} queries cannot be dealt to {n_clients} clients with alpha {alpha} and "
        f"{least_rows} rows each"
    )


def logged(
    answers: Evaluations, shares: NDArray[np.float64], rng: np.random.Generator
) -> Evaluations:
    """Keep one model per query, drawn from `shares`, of shape ``(n_models,)``."""
    chosen = rng.choice(len(shares), len(answers.quality), p=shares)
    kept = np.zeros(answers.quality.shape, bool)
    kept[np.arange(len(chosen)), chosen] = True
    return keep_answers(answers, kept)


def keep_answers(answers: Evaluations, kept: NDArray[np.bool_]) -> Evaluations:
    """Forget the answers where `kept` is false; shape ``(n_queries, n_models)``."""
    missing = np.float32(np.nan)
    return replace(
        answers,
        quality=np.where(kept, answers.quality, missing),
        cost_usd=np.where(kept, answers.cost_usd, missing),
    )


def split(answers: Evaluations, alpha: float, seed: int, n_clients: int = CLIENTS) -> list[Client]:
    """Deal the queries to clients, and each client's to train, validation and test.

    The same seed gives the same rows, whatever the models.
    """
    dealer, habits = (np.random.default_rng([seed, part]) for part in range(2))
    owner = deal(answers.tasks, alpha, n_clients, dealer, LEAST_ROWS)
    clients = []
    for index in range(n_clients):
        own = dealer.permutation(np.flatnonzero(owner == index))
        n_test = max(1, round(TEST_SHARE * len(own)))
        n_validation = max(1, round(VALIDATION_SHARE * (len(own) - n_test)))
        test, validation, train = np.split(own, [n_test, n_test + n_validation])
        shares = habits.dirichlet(np.full(len(answers.models), LOGGING_ALPHA))
        train_answers = select(answers, train)
        clients.append(
            Client(
                rows=Rows(
                    logged(train_answers, shares, habits),
                    logged(select(answers, validation), shares, habits),
                ),
                test=select(answers, test),
                train_answers=train_answers,
            )
        )
    return clients


def join(parts: Iterable[Evaluations]) -> Evaluations:
    """Put the rows of several tables under each other; all have the same models."""
    tables = list(parts)
    return Evaluations(
        np.concatenate([table.embeddings for table in tables]),
        np.concatenate([table.quality for table in tables]),
        np.concatenate([table.cost_usd for table in tables]),
        tables[0].models,
        tuple(task for table in tables for task in table.tasks),
    )


def with_models(evaluations: Evaluations, columns: NDArray[np.intp]) -> Evaluations:
    """Keep the models at `columns`, in that order."""
    return replace(
        evaluations,
        quality=evaluations.quality[:, columns],
        cost_usd=evaluations.cost_usd[:, columns],
        models=tuple(evaluations.models[column] for column in columns),
    )
