"""What each kind of router can be trained with across clients; JSON by way of `asdict`."""

from dataclasses import dataclass
from typing import Final, Literal

MAX_CLUSTERS: Final = 1_024
"""16 times as many as are of use: a tree of 8,000 centroids took a node 11 s and 1 GB."""
MAX_HIDDEN: Final = 8_192
MAX_LOCAL_EPOCHS: Final = 100


@dataclass(frozen=True, slots=True)
class FederatedKMeansSettings:
    """How clients cluster, how their clusters become common ones, and how those are mixed.

    Attributes:
        local_clusters: Most centroids that a client sends.
        clusters: Centroids of the common router.
        standardized: Scale features before clustering, which takes a round of row sums.
        prior_rows: How many rows a model's mean counts for in each cell.
        temperature: Of the soft assignment, in cosine distance.
    """

    local_clusters: int = 64
    clusters: int = 64
    standardized: bool = False
    prior_rows: float = 10.0
    temperature: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what a node could not work off.

        Raises:
            ValueError: There are too many clusters, or none.
        """
        _require_between("local_clusters", self.local_clusters, 1, MAX_CLUSTERS)
        _require_between("clusters", self.clusters, 1, MAX_CLUSTERS)


@dataclass(frozen=True, slots=True)
class FederatedMlpSettings:
    """How to build the network and train it together.

    With Adam at the clients, weights that each client trained are averaged: the paper's way (arXiv
    2601.22318). With Adam at the coordinator, gradients are: over ten clients of one task each
    (alpha 0.03) that left 0.218 of loss where averaged weights left 0.273 (llmrouter_ulab).

    Attributes:
        hidden: Width of the trunk.
        learning_rate: Of AdamW, which begins anew in every round where clients have it.
        weight_decay: Of AdamW.
        dropout: In the trunk, while training.
        adam_at: Who has the optimizer.
        batch_size: Rows per step of a client that has it.
        local_epochs: How often such a client goes through its rows in a round.
        rounds: How often clients train and are averaged.
        client_share: Of the clients, drawn for each round.
    """

    hidden: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 3e-4
    dropout: float = 0.3
    adam_at: Literal["clients", "coordinator"] = "coordinator"
    batch_size: int = 128
    local_epochs: int = 1
    rounds: int = 40
    client_share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what a node could not work off.

        Raises:
            ValueError: The network is too large, or a round is too long.
        """
        _require_between("hidden", self.hidden, 1, MAX_HIDDEN)
        _require_between("local_epochs", self.local_epochs, 1, MAX_LOCAL_EPOCHS)


@dataclass(frozen=True, slots=True)
class FederatedRidgeSettings:
    """How strongly weights are pulled to 0, in rows."""

    alpha: float = 100.0


FederatedSettings = FederatedKMeansSettings | FederatedMlpSettings | FederatedRidgeSettings


def _require_between(name: str, value: float, least: float, most: float) -> None:
    """Refuse a number that a node could not work off.

    Raises:
        ValueError: It is out of range.
    """
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")


KINDS: Final[dict[str, type[FederatedSettings]]] = {
    "kmeans": FederatedKMeansSettings,
    "mlp": FederatedMlpSettings,
    "ridge": FederatedRidgeSettings,
}
