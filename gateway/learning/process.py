"""The main function of the learner's own process."""

import signal
import threading

from gateway.learning.opening import open_learner
from gateway.learning.watching import watch
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened
from gateway.telemetry.log_lines import log_to_stderr


def learn(settings: GatewaySettings) -> None:
    """Learn until SIGTERM; a training that is under way then is not waited for by the parent."""
    log_to_stderr(settings.server)
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    with opened(settings) as engine:
        watch(open_learner(settings, engine), is_over, lambda _: None, settings.learning.poll_s)
