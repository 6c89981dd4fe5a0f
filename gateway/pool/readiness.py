"""Whether a gateway wants requests: not before it can answer one, nor once it was told to stop."""

from dataclasses import dataclass

from gateway.embedded.variants import EMBEDDED_PROVIDER
from gateway.pool.pool import Pool


@dataclass(slots=True)
class Readiness:
    """What ``/ready`` says.

    Attributes:
        is_leaving: Set once the process was told to stop; it then closes each connection after
            the answer that is under way on it.
    """

    pool: Pool
    is_leaving: bool = False

    def state(self) -> tuple[bool, str]:
        """Return whether a first request could be answered now, and why or why not."""
        if self.is_leaving:
            return False, "the gateway is stopping"
        embedded = self.pool.embedded
        models = self.pool.models
        others = [model for model in models.values() if model.provider != EMBEDDED_PROVIDER]
        if embedded is None or others or embedded.is_ready:
            return True, f"{len(models)} models"
        return False, embedded.problem or "the embedded model is loading"
