"""Looks again and again at what changes while the gateway serves."""

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack
from typing import Protocol

_log = logging.getLogger(__name__)


class Followed(Protocol):
    """What changes while it serves: artefacts of a folder, models that others announce, grades."""

    async def refresh(self) -> object:
        """Look once."""
        ...


async def follow(
    followed: Followed,
    poll_s: float,
    stack: AsyncExitStack,
) -> None:
    """Look now, then again and again until the stack is closed."""
    await followed.refresh()
    watching = asyncio.create_task(watch(followed, poll_s))

    async def stop() -> None:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    stack.push_async_callback(stop)


async def watch(followed: Followed, poll_s: float) -> None:
    """Look every `poll_s` seconds, until cancelled; what serves goes on if a look fails."""
    while True:
        await asyncio.sleep(poll_s)
        try:
            await followed.refresh()
        except Exception:  # noqa: BLE001 - whatever is wrong, the next look may find it mended
            _log.exception("%s: a look failed", type(followed).__name__)
