"""Clocks that a test moves."""

import asyncio


class ManualClock:
    """Unix seconds that only `advance` changes."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


def skip_ahead(seconds: float) -> None:
    """Let `seconds` pass at once for every timer of the running event loop.

    So a time-out comes when a test has seen what must come before it, however busy the machine is.
    """
    loop = asyncio.get_running_loop()
    before = loop.time
    # A type checker takes a method for no variable.
    setattr(loop, "time", lambda: before() + seconds)  # noqa: B010
