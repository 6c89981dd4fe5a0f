"""Steps of the learner, one after another, while this process has the lease."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from gateway.learning.events import Event
from gateway.learning.learner import Learner
from gateway.storage.database import summary

_log = logging.getLogger(__name__)


def step_with_lease(learner: Learner, *, is_forced: bool = False) -> tuple[Event, ...] | None:
    """Take one step, unless another process learns: then return None.

    Raises:
        SQLAlchemyError: The database does not answer.
    """
    if not learner.lease.take():
        return None
    with learner.lease.renewed():
        return learner.step(is_forced=is_forced)


def watch(
    learner: Learner,
    is_over: threading.Event,
    report: Callable[[Event], None],
    poll_s: float,
) -> None:
    """Take step after step until `is_over`; a database that is down is asked again.

    A process that does not have the lease asks for it each time, so it takes over when the one
    that has it is gone.
    """
    poll_s = min(poll_s, learner.lease.ttl_s / 2)
    while not is_over.is_set():
        try:
            for event in step_with_lease(learner) or ():
                report(event)
        except SQLAlchemyError as error:
            _log.warning("the learner waits for the database: %s", summary(error))
        except OSError as error:
            _log.warning("the learner waits for the disk: %s", error)
        is_over.wait(poll_s)
    try:
        learner.lease.release()
    except SQLAlchemyError as error:
        _log.warning("the lease of the learner runs out by itself: %s", summary(error))
