"""How many connections a port has, counted by the server that holds them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

REASONS: Final = {
    b"408 Request Timeout": "slow",
    b"429 Too Many Requests": "address",
    b"431 Request Header Fields Too Large": "headers",
    b"503 Service Unavailable": "full",
}
"""Why a connection is refused, by the status that it is answered."""


@dataclass(slots=True)
class ConnectionCounts:
    """Of one port.

    Attributes:
        limit: Most that may be open at a time; 0 before the port is served.
        refused: By reason.
    """

    open: int = 0
    limit: int = 0
    refused: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(REASONS.values(), 0))
    )

    def refuse(self, status: bytes) -> None:
        """Count a connection that is turned away with `status`."""
        self.refused[REASONS[status]] += 1
