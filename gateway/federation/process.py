"""What the two long-running commands share."""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from gateway.settings.config import GatewaySettings
from gateway.telemetry import log_lines


def log_to_stderr(settings: GatewaySettings) -> None:
    """Have this process write its log as the gateway does."""
    log_lines.log_to_stderr(settings.server)
    logging.getLogger("flwr").propagate = False  # it writes by itself


def run_until_stopped(main: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or Ctrl-C, and let `main` clean up."""

    async def run() -> None:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
