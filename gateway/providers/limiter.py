"""The places of a provider, and the line for them: teams take turns."""

import asyncio
from collections import OrderedDict
from typing import Final

from gateway.errors import ProviderUnavailable

RETRY_AFTER_S: Final = 1.0
Waiter = asyncio.Future[bool]
"""Ends as True where it got a place, as False where it had to leave a full line."""


class Limiter:
    """At most `slots` calls at a time, at most as many waiting, each for at most `wait_s`.

    Each team has a line of its own, first come first served. The teams that wait take turns, one
    call each: deficit round robin (Shreedhar and Varghese, 1995) where all weights are equal and
    every call costs one. A call costs one because places are what is short; expected tokens are a
    guess that the caller can shape.

    The last of the longest line leaves when the lines are full and a team comes whose own line is
    shorter by two or more: so a team's share of them shrinks as more teams wait. All of it is
    O(1) per call.
    """

    def __init__(self, provider: str, slots: int, wait_s: float) -> None:
        self.limit = slots
        self.in_flight = 0
        self.waiting = 0
        self.refused = {"full": 0, "late": 0}
        self._provider = provider
        self._wait_s = wait_s
        self._lines: OrderedDict[str, OrderedDict[Waiter, None]] = OrderedDict()
        self._of_length: list[OrderedDict[str, None]] = [OrderedDict()]
        self._longest = 0

    def place(self, team_id: str) -> "_Place":
        """Return a context that holds a place for a call of `team_id`.

        Entering raises ProviderUnavailable where there was none in time, or the line is full.
        """
        return _Place(self, team_id)

    def leave(self) -> None:
        """Give a place back: to the first in line of the team whose turn it is, if any waits."""
        while self._lines:
            team_id, line = next(iter(self._lines.items()))
            waiter = next(iter(line))
            self._remove(team_id, waiter)
            if waiter.done():  # a caller that left and has not run since
                continue
            waiter.set_result(True)
            if line:
                self._lines.move_to_end(team_id)
            return
        self.in_flight -= 1

    async def wait(self, team_id: str) -> None:
        """Wait for a place that somebody leaves.

        Raises:
            ProviderUnavailable: There was none in time, or the line is full.
        """
        if self.waiting >= self.limit:
            self._make_room(team_id)
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._add(team_id, waiter)
        try:
            async with asyncio.timeout(self._wait_s):
                has_place = await waiter
        except BaseException as error:
            self._give_up(team_id, waiter)
            if isinstance(error, TimeoutError):
                raise self._refusal("late") from error
            raise
        if not has_place:
            raise self._refusal("full")

    def _give_up(self, team_id: str, waiter: Waiter) -> None:
        if waiter in self._lines.get(team_id, ()):
            self._remove(team_id, waiter)
        elif not waiter.cancelled() and waiter.result():
            self.leave()

    def _make_room(self, team_id: str) -> None:
        if self._longest < len(self._lines.get(team_id, ())) + 2:
            raise self._refusal("full")
        longest = next(iter(self._of_length[self._longest]))
        last = next(reversed(self._lines[longest]))
        self._remove(longest, last)
        if not last.done():
            last.set_result(False)

    def _add(self, team_id: str, waiter: Waiter) -> None:
        line = self._lines.setdefault(team_id, OrderedDict())
        line[waiter] = None
        self.waiting += 1
        self._note_length(team_id, len(line) - 1, len(line))

    def _remove(self, team_id: str, waiter: Waiter) -> None:
        line = self._lines[team_id]
        del line[waiter]
        self.waiting -= 1
        self._note_length(team_id, len(line) + 1, len(line))
        if not line:
            del self._lines[team_id]

    def _note_length(self, team_id: str, before: int, now: int) -> None:
        """Keep the teams by the length of their lines, which changes by one at a time."""
        self._of_length[before].pop(team_id, None)
        if now == len(self._of_length):
            self._of_length.append(OrderedDict())
        if now:
            self._of_length[now][team_id] = None
        if now > self._longest or not self._of_length[self._longest]:
            self._longest = now

    def _refusal(self, reason: str) -> ProviderUnavailable:
        self.refused[reason] += 1
        return ProviderUnavailable(
            f"provider {self._provider!r} has {self.limit} calls in progress, the most allowed",
            provider=self._provider,
            retry_after_s=RETRY_AFTER_S,
        )


class _Place:
    """One place, held while its context is entered."""

    __slots__ = ("_limiter", "_team_id")

    def __init__(self, limiter: Limiter, team_id: str) -> None:
        self._limiter = limiter
        self._team_id = team_id

    async def __aenter__(self) -> None:
        limiter = self._limiter
        if limiter.in_flight < limiter.limit:
            limiter.in_flight += 1
        else:
            await limiter.wait(self._team_id)

    async def __aexit__(self, *_: object) -> None:
        self._limiter.leave()
