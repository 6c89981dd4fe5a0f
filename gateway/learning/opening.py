"""Makes the learner of a gateway's settings: the one place where its collaborators meet."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Engine

from gateway.artifacts.frontier_file import prices_of
from gateway.artifacts.store import router_store
from gateway.artifacts.trust import Trust
from gateway.embedded.routers import packaged_router
from gateway.learning.events import LearningEvents
from gateway.learning.evidence import Evidence
from gateway.learning.first import FirstRouter
from gateway.learning.learner import Learner
from gateway.learning.serving import Serving
from gateway.routing.encoders import load_encoder
from gateway.routing.prior import open_prior
from gateway.settings.config import GatewaySettings
from gateway.storage.lease import Lease, name_this_process
from router_models.artifacts.sealed_file import EncoderIdentity

LEARNER: Final = "learner"
"""Name of the lease of who learns."""


def open_learner(
    settings: GatewaySettings,
    engine: Engine,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Learner:
    """Make a learner that reads this gateway's log and writes to its store of routers.

    Raises:
        ConfigurationError: Signatures are asked for, and there is no key to sign with.
    """
    Trust.of(settings.artifacts).require_key()
    encoder = load_encoder(settings.routing.encoder)
    packaged = packaged_router(encoder.id, settings.embedded)
    default_profile = settings.all_profiles[settings.routing.default_profile]
    return Learner(
        settings=settings.learning,
        events=LearningEvents(engine),
        evidence=Evidence(engine, encoder, settings.learning.max_rows),
        serving=Serving(
            router_store(settings),
            encoder,
            None if packaged is None else packaged.read_bytes(),
            _first_router(settings, encoder),
        ),
        lease=Lease(engine, LEARNER, name_this_process()),
        prices=prices_of(settings),
        willingness_to_pay_usd=default_profile.willingness_to_pay_usd,
        clock=clock,
    )


def _first_router(settings: GatewaySettings, encoder: EncoderIdentity) -> FirstRouter | None:
    prior = open_prior(encoder) if settings.routing.prior else None
    if prior is None:
        return None
    models = settings.models.items()
    return FirstRouter(prior.prior, {name: table.upstream_name or name for name, table in models})
