"""What use teaches before any router was trained: grades change what the prior believes."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from sqlalchemy.exc import SQLAlchemyError

from gateway.evaluation_log.graded_answers import GradedAnswer
from gateway.routing.prior import DayOne
from gateway.types import HostedModel

POLL_S: Final = 30.0
"""From a grade to its effect at most; a poll without a new grade is one look at an index."""

RECENT: Final = timedelta(days=1)

SETTLED: Final = timedelta(seconds=10)
"""After a grade; by then the graded turn is written too, which another process may do later."""

_log = logging.getLogger(__name__)


class Grades(Protocol):
    """Where graded answers are read; `GradedAnswers` is one."""

    def newest(self) -> tuple[datetime, str] | None:
        """Say when the newest grade was given, and its id."""
        ...

    def read(self) -> list[GradedAnswer]:
        """Return the latest graded answers."""
        ...


@dataclass(slots=True, eq=False)
class LearningFromUse:
    """Follows the log of grades; the event loop waits for none of it.

    Every process reads the same rows and computes the same beliefs, so that workers and replicas
    need nothing from each other.

    Attributes:
        grades: Of the log.
        prior: Whose beliefs change; None where only `is_graded` is asked.
        models: Every hosted model by name.
        clock: The time of day.
    """

    grades: Grades
    prior: DayOne | None
    models: Mapping[str, HostedModel]
    clock: Callable[[], datetime]
    _seen: object = field(default=None, init=False)
    _newest: tuple[datetime, str] | None = field(default=None, init=False)

    def is_graded(self) -> bool:
        """Say whether somebody grades: a grade was given within a day."""
        return self._newest is not None and self.clock() - self._newest[0] <= RECENT

    async def refresh(self) -> bool:
        """Look once for new grades and learn from them; return whether there were some.

        A database that cannot be asked changes nothing.
        """
        models = tuple(self.models.values())
        try:
            newest = self._newest = await asyncio.to_thread(self.grades.newest)
            if self.prior is None or newest is None:
                return False
            seen = newest, models, self.clock() - newest[0] > SETTLED
            if seen == self._seen:
                return False
            await asyncio.to_thread(self._learn, self.prior, models)
        except (SQLAlchemyError, OSError, ValueError) as error:
            _log.warning("grades were not learned from: %s", type(error).__name__)
            return False
        self._seen = seen
        return True

    def _learn(self, prior: DayOne, models: tuple[HostedModel, ...]) -> None:
        prior.learn(models, self.grades.read())
