"""Made-up rows of several clients, each with tasks and models of its own."""

import numpy as np

from router_models.statistics import select
from router_models.types import Evaluations
from tests.fakes.evaluations import made_up


def split_rows(rows: Evaluations, n_clients: int) -> list[Evaluations]:
    """Deal rows out one by one."""
    return [
        select(rows, np.arange(first, len(rows.quality), n_clients)) for first in range(n_clients)
    ]


def pooled(clients: list[Evaluations]) -> Evaluations:
    """All clients' rows in one table."""
    return Evaluations(
        np.concatenate([client.embeddings for client in clients]),
        np.concatenate([client.quality for client in clients]),
        np.concatenate([client.cost_usd for client in clients]),
        clients[0].models,
    )


def without_model(rows: Evaluations, column: int) -> Evaluations:
    """The same queries, none of them answered by the model of that column."""
    quality, cost = rows.quality.copy(), rows.cost_usd.copy()
    quality[:, column] = cost[:, column] = np.nan
    return Evaluations(rows.embeddings, quality, cost, rows.models, rows.tasks)


def no_rows() -> Evaluations:
    """A client that has seen nothing."""
    return select(made_up(4), np.arange(0))
