"""Small sites with something to learn, and what can befall their replies."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, Message, RecordDict

from benchmarks.federation_simulation.in_process import Fault
from benchmarks.federation_simulation.simulation import RowsSite
from federation.learning.settings import (
    FederatedKMeansSettings,
    FederatedMlpSettings,
    FederatedRidgeSettings,
    FederatedSettings,
)
from federation.protocol.protocol import (
    ARRAYS,
    EncoderName,
    Payload,
    TrainingPlan,
    from_record,
    to_record,
)
from federation.site import SitePolicy
from tests.fakes.evaluations import DIMENSION, made_up

ENCODER = EncoderName("static-cheap-1", "ab" * 32, DIMENSION)
SETTINGS: dict[str, FederatedSettings] = {
    "kmeans": FederatedKMeansSettings(local_clusters=6, clusters=4),
    "mlp": FederatedMlpSettings(hidden=8, rounds=3, learning_rate=0.01),
    "ridge": FederatedRidgeSettings(alpha=10.0),
}


def site_of(index: int, n_queries: int = 80, policy: SitePolicy | None = None) -> RowsSite:
    """Make a site; another index has other rows of the same kind."""
    return RowsSite(
        f"site-{index}",
        made_up(n_queries, seed=index),
        made_up(40, seed=1000 + index),
        ENCODER,
        policy or SitePolicy(),
    )


def sites_of(n_sites: int = 4) -> list[RowsSite]:
    """Make sites of several sizes."""
    return [site_of(index, 60 + 20 * index) for index in range(n_sites)]


def plan_of(kind: str = "kmeans", **changes: Any) -> TrainingPlan:
    """Make a small plan of this kind."""
    return replace(TrainingPlan(kind, SETTINGS[kind], ENCODER), **changes)


def during(name: str, fault: Fault) -> Fault:
    """Let a fault befall the replies to one exchange only."""

    def befall(instruction: Message, reply: Message) -> Message | None:
        return fault(instruction, reply) if instruction.metadata.message_type == name else reply

    return befall


def silence(instruction: Message, reply: Message) -> None:
    """Let no reply arrive."""


def changed(change: Callable[[Payload], Payload]) -> Fault:
    """Change the arrays of a reply on their way."""

    def befall(instruction: Message, reply: Message) -> Message:
        payload = change(from_record(reply.content.array_records[ARRAYS]))
        return Message(RecordDict({ARRAYS: to_record(payload)}), reply_to=instruction)

    return befall


def with_extra_record(instruction: Message, reply: Message) -> Message:
    """Add a record that nobody asked for."""
    return Message(RecordDict({**reply.content, "extra": ArrayRecord()}), reply_to=instruction)
