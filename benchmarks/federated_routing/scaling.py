"""What a session costs as clients and models grow: CPU time, memory and bytes per round.

Rows are real ones drawn again with a little noise, since no set has enough for a thousand clients;
models beyond a set's own are its models again. Every size runs in a process of its own, for the
sake of its peak memory.
"""

import logging
import multiprocessing
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.federated_routing.federated import train_together
from benchmarks.federated_routing.protocol import Rows, logged
from benchmarks.federation_simulation.in_process import Exchanged
from federation.learning.settings import (
    FederatedKMeansSettings,
    FederatedMlpSettings,
    FederatedSettings,
)
from router_models.types import Evaluations

ROWS_PER_CLIENT: Final = 100
VALIDATION_ROWS: Final = 20
NOISE: Final = 0.05
CLIENTS: Final = (10, 100, 1000)
MODELS: Final = (10, 50, 200)
MLP_ROUNDS: Final = 3
SETTINGS: Final[Mapping[str, FederatedSettings]] = {
    "kmeans": FederatedKMeansSettings(local_clusters=15, clusters=64),
    "mlp": FederatedMlpSettings(rounds=MLP_ROUNDS),
}
KIBIBYTE: Final = 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What one session cost.

    Attributes:
        messages: To clients, each with its answer.
        bytes_sent: Content of messages to clients.
        bytes_received: Content of their answers.
        cpu_s: Of all clients and the coordinator, without reading rows and starting up.
        peak_bytes: Of the process, all clients' rows included.
        start_bytes: Of it before the session, libraries and rows included.
    """

    kind: str
    clients: int
    models: int
    messages: int
    bytes_sent: int
    bytes_received: int
    cpu_s: float
    peak_bytes: int
    start_bytes: int


class Tally(list[Exchanged]):
    """Counts traffic and keeps none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = self.bytes_sent = self.bytes_received = 0

    def append(self, exchanged: Exchanged) -> None:
        """Count a message."""
        self.messages += 1
        self.bytes_sent += exchanged.bytes_sent
        self.bytes_received += exchanged.bytes_received


def measure_scaling(answers: Evaluations, *, is_quick: bool) -> list[dict[str, Any]]:
    """Grow clients with few models, then models with few clients."""
    sizes = [(clients, MODELS[0]) for clients in CLIENTS]
    sizes += [(CLIENTS[0], models) for models in MODELS[1:]]
    sizes = [size for size in sizes if not is_quick or size[0] < CLIENTS[-1]]
    spawning = multiprocessing.get_context("spawn")
    costs = []
    for kind in SETTINGS:
        for clients, models in sizes:
            with spawning.Pool(1) as pool:
                costs.append(pool.apply(measure_cost, (answers, kind, clients, models)))
    return [asdict(cost) for cost in costs]


def measure_cost(answers: Evaluations, kind: str, n_clients: int, n_models: int) -> Cost:
    """Run one session, in a process of its own."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    rng = np.random.default_rng(0)
    rows = [_client(answers, n_models, rng) for _ in range(n_clients)]
    # Else the peak of reading rows, and of the parent, would be the peak.
    Path("/proc/self/clear_refs").write_text("5")
    tally, start_bytes = Tally(), _memory_bytes("VmRSS")
    began_s = time.process_time()
    train_together(rows, SETTINGS[kind], 0, traffic=tally)
    return Cost(
        kind,
        n_clients,
        n_models,
        tally.messages,
        tally.bytes_sent,
        tally.bytes_received,
        time.process_time() - began_s,
        _memory_bytes("VmHWM"),
        start_bytes,
    )


def _client(answers: Evaluations, n_models: int, rng: np.random.Generator) -> Rows:
    drawn = rng.integers(0, len(answers.quality), ROWS_PER_CLIENT + VALIDATION_ROWS)
    columns = np.arange(n_models) % len(answers.models)
    noise = rng.standard_normal((len(drawn), answers.embeddings.shape[1]))
    wide = Evaluations(
        (answers.embeddings[drawn] + NOISE * noise).astype(np.float32),
        answers.quality[np.ix_(drawn, columns)],
        answers.cost_usd[np.ix_(drawn, columns)],
        tuple(f"model-{index:03}" for index in range(n_models)),
    )
    log = logged(wide, np.full(n_models, 1.0 / n_models), rng)
    return Rows(_rows(log, slice(0, ROWS_PER_CLIENT)), _rows(log, slice(ROWS_PER_CLIENT, None)))


def _rows(log: Evaluations, part: slice) -> Evaluations:
    return Evaluations(log.embeddings[part], log.quality[part], log.cost_usd[part], log.models)


def _memory_bytes(line: str) -> int:
    """Read one line of what Linux knows of this process's memory."""
    status = Path("/proc/self/status").read_text()
    found = next(each for each in status.splitlines() if each.startswith(line))
    return int(found.split()[1]) * KIBIBYTE
