"""How many routers a site judges: a verdict says something of the rows that it rests on."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from federation.errors import PlanRefused
from federation.node.durable import write_durably

DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class VerdictLimit:
    """Counts verdicts over restarts; one process writes the file.

    Attributes:
        path: JSON; made at the first verdict.
        per_day: Most verdicts in any 24 hours.
    """

    path: Path
    per_day: int

    def spend(self, now: datetime) -> None:
        """Count one verdict, before it is made.

        Raises:
            PlanRefused: There were too many.
        """
        stored = json.loads(self.path.read_text("utf-8")) if self.path.exists() else []
        # A clock that was set back does not make room.
        latest = [at for at in stored if now - datetime.fromisoformat(at) < DAY]
        if len(latest) >= self.per_day:
            raise PlanRefused(
                f"this site judged {len(latest)} new routers in the last 24 hours, the most that "
                "federation.node.routers_per_day allows"
            )
        write_durably(self.path, json.dumps([*latest, now.isoformat()]).encode())
