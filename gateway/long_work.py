"""Does what takes long in a thread, so that the event loop goes on serving all others."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar

LONG_BYTES: Final = 256 * 1024
"""Of a body or an event: a shorter one is read within 2 ms, and a thread costs 0.1 ms."""
SWITCH_S: Final = 0.0005
"""After so long a thread gives Python's lock to one that waits for it; Python's own value is ten
times this. The event loop takes the lock anew for each connection that is ready."""

Given = ParamSpec("Given")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class LongWork:
    """What takes long takes turns.

    Threads share Python's lock, and a function written in C keeps it until it returns. Each time
    the event loop waits for the lock, it waits for one such function, not for one of each thread.
    """

    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(
        self,
        n_bytes: int,
        function: Callable[Given, Made],
        /,
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Made:
        """Call what reads so many bytes: at once, or `aside` if they are many."""
        if n_bytes <= LONG_BYTES:
            return function(*args, **kwargs)
        return await self.aside(function, *args, **kwargs)

    async def aside(
        self, function: Callable[Given, Made], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Made:
        """Call `function` in a thread, once nothing else is being done there."""
        async with self._turn:
            return await asyncio.to_thread(function, *args, **kwargs)
