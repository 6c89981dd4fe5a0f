"""Why a router serves or does not: kept beside its artefact."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

Outcome = Literal["activated", "candidate", "refused"]


@dataclass(frozen=True, slots=True)
class Assessment:
    """What somebody made of a router on rows that it had not seen.

    Attributes:
        outcome: ``activated`` serves, ``candidate`` is kept, ``refused`` is not kept.
        reason: One sentence for an operator.
        figures: What the reason rests on.
        assessed_at: With a time zone.
    """

    outcome: Outcome
    reason: str
    assessed_at: datetime
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write the assessment as a JSON object of one entry per field."""
        table = {**asdict(self), "assessed_at": self.assessed_at.astimezone(UTC).isoformat()}
        return json.dumps(table, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Assessment":
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        table = json.loads(text)
        if not isinstance(table, dict) or table.get("outcome") not in get_args(Outcome):
            raise ValueError("not an assessment of a router")
        figures = table.get("figures")
        return cls(
            table["outcome"],
            str(table.get("reason", "")),
            datetime.fromisoformat(str(table.get("assessed_at"))),
            {str(name): float(value) for name, value in _items(figures)},
        )


def _items(figures: Any) -> Any:
    return figures.items() if isinstance(figures, dict) else ()
