"""A second router that decides a share of the turns.

It is a new one, before it decides them all; or the one before the active one, so that the two can
be compared for as long as the active one serves.

Which one, and how large a share, is a row of the learner's events: every replica reads the same.
What is logged is the probability of a model under both routers together, as turns were drawn.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.artifacts.active import ActiveRouter
from gateway.routing.plan import CanaryScores
from gateway.storage.database import summary
from migrations.tables import LEARNING_EVENTS
from router_models.artifacts.router import Router
from router_models.decide import RouteDecision
from router_models.errors import ArtifactRejected

STATES: Final = ("canary", "activated", "rolled_back")
"""Events of which the last one says which router decides a share."""
SHARE: Final = "share"
"""Figure of the event: the share of turns."""
SALT: Final = "salt"
"""Figure of the event: unknown to callers, so that none can choose the router of a conversation."""

_log = logging.getLogger(__name__)


class CanaryState(NamedTuple):
    """Which router decides a share of the turns.

    Attributes:
        is_new: It is to serve if it does well; else it served before the active one.
    """

    version: str
    share: float
    salt: str
    is_new: bool = True


def beginning(share: float) -> dict[str, Any]:
    """Return the figures of an event with which a router begins to decide `share` of the turns."""
    return {SHARE: share, SALT: secrets.token_hex(8)}


def kept(share: float, former: str | None) -> dict[str, Any]:
    """Return the figures with which `former` goes on deciding `share`; none where neither is."""
    return beginning(share) if share and former is not None else {}


def read_canary(engine: Engine) -> CanaryState | None:
    """Read which router decides a share of the turns now; None where none does."""
    table = LEARNING_EVENTS
    query = (
        select(table.c.what, table.c.router_version, table.c.former_version, table.c.figures)
        .where(table.c.what.in_(STATES))
        .order_by(table.c.id.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None or SHARE not in (row.figures or {}) or row.what == "rolled_back":
        return None
    is_new = row.what == "canary"
    version = row.router_version if is_new else row.former_version
    return CanaryState(version, float(row.figures[SHARE]), row.figures[SALT], is_new)


@dataclass(slots=True, eq=False)
class Canary:
    """Follows the state; the request path reads `current`, one attribute.

    Attributes:
        read: Reads the state; runs in a thread.
        routers: Opens the router, and says what serves beside it.
        rng: Draws turns that belong to no conversation.
        current: The router and its share; None where there is none.
        salt: Of the state.
    """

    read: Callable[[], CanaryState | None]
    routers: ActiveRouter
    rng: np.random.Generator
    current: tuple[Router, float] | None = field(default=None, init=False)
    salt: str = field(default="", init=False)

    async def refresh(self) -> bool:
        """Look once; a database that does not answer changes nothing."""
        try:
            state = await asyncio.to_thread(self.read)
        except SQLAlchemyError as error:
            _log.warning("the canary stays as it is: %s", summary(error))
            return False
        former, now = self.current, await self._open(state)
        self.current, self.salt = now, "" if state is None else state.salt
        return now != former

    async def _open(self, state: CanaryState | None) -> tuple[Router, float] | None:
        if state is None or state.version == self.routers.version:
            return None
        try:
            return await self.routers.pinned(state.version), state.share
        except ArtifactRejected as error:
            _log.warning("the canary %s decides nothing here: %s", state.version, error)
            return None

    def draws(self, team_id: str, conversation: str | None) -> bool:
        """Say whether the canary decides a turn; the same for all turns of a conversation.

        A conversation that it decides stays with it when its share grows.
        """
        if self.current is None:
            return False
        _, share = self.current
        if conversation is None:
            return bool(self.rng.random() < share)
        named = f"{self.salt} {team_id} {conversation}"
        digest = blake2b(named.encode(), digest_size=8).digest()
        return int.from_bytes(digest) < share * 2.0**64


def mixed(
    own: RouteDecision, other: RouteDecision, canary: CanaryScores, models: Sequence[str]
) -> RouteDecision:
    """Return the decision of the router that was drawn, with the propensities of both together.

    Args:
        own: Of the router that serves.
        other: Of the canary.
        models: Those that the propensities are of.
    """
    share, drawn = canary.share, other if canary.is_drawn else own
    pairs = zip(own.propensities, other.propensities, strict=True)
    propensities = [(1.0 - share) * one + share * another for one, another in pairs]
    propensity = propensities[models.index(drawn.model)]
    return drawn._replace(propensities=propensities, propensity=propensity)
