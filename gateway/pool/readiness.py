"""Whether a gateway wants requests: not before it can answer one, nor once it was told to stop."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.embedded.variants import EMBEDDED_PROVIDER
from gateway.pool.pool import Pool


def no_problem() -> tuple[bool, str | None]:
    """Say that counters in this process always answer."""
    return True, None


@dataclass(slots=True)
class Readiness:
    """What ``/ready`` says.

    Attributes:
        counters_problem: Says whether budgets could be checked since the start, and what is wrong.
        is_leaving: Set once the process was told to stop; it then closes each connection after
            the answer that is under way on it.
    """

    pool: Pool
    is_leaving: bool = False
    counters_problem: Callable[[], tuple[bool, str | None]] = no_problem

    def state(self) -> tuple[bool, str]:
        """Return whether a first request could be answered now, and why or why not."""
        if self.is_leaving:
            return False, "the gateway is stopping"
        were_counted, problem = self.counters_problem()
        if not were_counted:
            return False, problem or "the store of the budgets' counters was not asked yet"
        embedded = self.pool.embedded
        models = self.pool.models
        others = [model for model in models.values() if model.provider != EMBEDDED_PROVIDER]
        if embedded is None or others or embedded.is_ready:
            said = f"{len(models)} models"
            return True, said if problem is None else f"{said}; {problem}"
        return False, embedded.problem or "the embedded model is loading"
