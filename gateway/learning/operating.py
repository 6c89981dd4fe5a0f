"""Which router serves from now on: a proposed one, or the one before it."""

from contextlib import suppress
from datetime import datetime

from gateway.artifacts.store import ArtifactStore
from gateway.learning.events import OPERATOR, Event, LearningEvents
from gateway.routing.canary import STATES, kept
from router_models.errors import ArtifactRejected


def let_serve(store: ArtifactStore, version: str, former: str | None) -> None:
    """Activate a version; what served so far, though nobody activated it, can be returned to.

    Args:
        former: What served so far; None where nothing did.

    Raises:
        ArtifactRejected: There is no such version, or it cannot serve.
        OSError: The folder cannot be written to.
    """
    if former is not None:
        # One that is not stored, or that nobody signed, is nothing to return to.
        with suppress(ArtifactRejected):
            store.activate(former)
    store.activate(version)


def former_of(store: ArtifactStore, version: str) -> str | None:
    """Return what `rollback` would return to from `version`."""
    history = store.history()
    while history and history.pop() != version:
        pass
    return history[-1] if history else None


def approve(
    events: LearningEvents,
    store: ArtifactStore,
    version: str | None,
    now: datetime,
    kept_share: float = 0.0,
) -> Event:
    """Let a router serve that the learner proposed, or that decides a share of the turns.

    Args:
        version: None for the one that was proposed last.
        kept_share: Of the turns, that the router before it goes on deciding.

    Raises:
        ArtifactRejected: None was proposed, or it did worse than another one when it served.
    """
    proposed = events.latest("proposed", "canary", version=version)
    if proposed is None or proposed.router_version is None:
        which = "no router" if version is None else f"{version} is not a router that"
        raise ArtifactRejected(f"{which} was proposed; `waypost learn status` shows the steps")
    if proposed.router_version in events.rolled_back():
        raise ArtifactRejected(
            f"{proposed.router_version} was rolled back; `waypost router activate` lets it serve "
            "all the same"
        )
    let_serve(store, proposed.router_version, store.active() or proposed.former_version)
    former = former_of(store, proposed.router_version)
    why = f"approved: {proposed.why}"
    figures = kept(kept_share, former)
    event = Event(now, OPERATOR, "activated", why, proposed.router_version, former, figures)
    events.add(event)
    return event


def roll_back(events: LearningEvents, store: ArtifactStore, now: datetime) -> Event:
    """End the canary, or let the router serve that served before the active one.

    Raises:
        ArtifactRejected: There is none, or it cannot be read.
    """
    last = events.latest(*STATES)
    if last is not None and last.what == "canary":
        refused, former = last.router_version, last.former_version
    else:
        refused = store.active()
        former = store.rollback().version
    event = Event(now, OPERATOR, "rolled_back", "an operator rolled it back", refused, former)
    events.add(event)
    return event
