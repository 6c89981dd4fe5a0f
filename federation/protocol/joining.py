"""What can join a router that is there already; imported by commands that must start at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MODELS_JOIN: Final = "models"
CLIENTS_JOIN: Final = "clients"

GROWTHS: Final[Mapping[str, tuple[str, ...]]] = {
    "models": (MODELS_JOIN,),
    "clients": (CLIENTS_JOIN,),
    "any": (CLIENTS_JOIN, MODELS_JOIN),
}
"""What an operator may ask for; of any, whatever enough sites turn out to bring."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A router that is there already, and what may join it.

    Attributes:
        parent: Version of the router.
        models: Its models, in the order of its columns.
        allowed: Of `MODELS_JOIN` and `CLIENTS_JOIN`; what enough sites bring decides, in this
            order.
    """

    parent: str
    models: tuple[str, ...]
    allowed: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot join.

        Raises:
            ValueError: Nothing is allowed, or something unknown.
        """
        if not self.allowed or not set(self.allowed) <= {MODELS_JOIN, CLIENTS_JOIN}:
            raise ValueError(f"{MODELS_JOIN} or {CLIENTS_JOIN} join a router, or both may")

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Growth":
        """Read what `asdict` wrote."""
        return cls(table["parent"], tuple(table["models"]), tuple(table["allowed"]))
