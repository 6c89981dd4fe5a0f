"""The routers that the learner compares: what serves, and what lies in the store."""

import logging
from dataclasses import dataclass

from gateway.artifacts.store import ArtifactStore
from gateway.learning.first import FirstRouter
from router_models.artifacts.artifact import load
from router_models.artifacts.router import Router
from router_models.artifacts.sealed_file import EncoderIdentity
from router_models.errors import ArtifactRejected
from router_models.evaluation.log_rows import LoggedRows

_log = logging.getLogger(__name__)


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

    def router_for(self, rows: LoggedRows) -> Router | None:
        """Return what serves; None where nothing does that knows a model of the log."""
        serving = self.router()
        if self.version is not None:
            return serving
        if serving is not None and any(serving.column(name) is not None for name in rows.models):
            return serving
        return None if self.first is None else self.first.of(rows)

    def open(self, version: str | None) -> Router | None:
        """Load a router; None where it cannot serve either."""
        if version is None:
            return None
        try:
            return load(self.store.read(version), self.encoder)
        except ArtifactRejected as error:
            _log.warning("%s cannot be compared with: %s", version, error)
            return None
