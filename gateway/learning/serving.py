"""The routers that the learner compares: what serves, and what lies in the store."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from gateway.artifacts.store import ArtifactStore
from gateway.learning.first import FirstRouter
from router_models.artifacts.artifact import load
from router_models.artifacts.router import Router
from router_models.artifacts.sealed_file import EncoderIdentity
from router_models.errors import ArtifactRejected
from router_models.evaluation.log_rows import LoggedRows

_log = logging.getLogger(__name__)


class Incumbent(NamedTuple):
    """What serves before another router does.

    Attributes:
        router: That the other one has to stand beside; None where none knows a model of the log.
        artifact: To be stored, to return to; None where the store has it, or there is nothing.
    """

    router: Router | None
    artifact: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """Tells what serves.

    Attributes:
        store: Of the routers; what it calls active serves.
        encoder: That the routers must be made for.
        default_artifact: The router that serves while none was activated.
        first: Makes the router that serves while none was activated and `default_artifact` knows no
            model; None where nothing serves then.
    """

    store: ArtifactStore
    encoder: EncoderIdentity
    default_artifact: bytes | None = None
    first: FirstRouter | None = None

    @property
    def version(self) -> str | None:
        """The version that was activated; None where none was, or it cannot be read."""
        try:
            return self.store.active()
        except ArtifactRejected:
            return None

    def router(self) -> Router | None:
        """Return the router that was activated, or else the packaged one."""
        version = self.version
        if version is not None or self.default_artifact is None:
            return self.open(version)
        return load(self.default_artifact, self.encoder)

    def incumbent(self, rows: LoggedRows, now: datetime) -> Incumbent:
        """Return what serves; where the prior does, with what the log has taught it by now."""
        serving, is_activated = self.router(), self.version is not None
        if is_activated and (serving is None or not self.is_prior(serving)):
            return Incumbent(serving, None)
        if not is_activated and serving is not None and _knows_any(serving, rows):
            return Incumbent(serving, self.default_artifact)
        made = None if self.first is None else self.first.of(rows)
        if self.first is not None and made is not None:
            content = self.first.keep(made, self.encoder, now)
            return Incumbent(load(content, self.encoder), content)
        return Incumbent(serving, None) if is_activated else Incumbent(None, self.default_artifact)

    def is_prior(self, router: Router) -> bool:
        """Say whether it is the prior that would serve if nothing had been activated."""
        return self.first is not None and self.first.prior.is_kept_as(router)

    def open(self, version: str | None) -> Router | None:
        """Load a router; None where it cannot serve either."""
        if version is None:
            return None
        try:
            return load(self.store.read(version), self.encoder)
        except ArtifactRejected as error:
            _log.warning("%s cannot be compared with: %s", version, error)
            return None


def _knows_any(router: Router, rows: LoggedRows) -> bool:
    return any(router.column(name) is not None for name in rows.models)
