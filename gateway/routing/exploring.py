"""When to explore, and for how much: a cap on what exploration is expected to lose in a day."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from gateway.settings.routing import ExplorationSettings
from router_models.decide import Exploration

OFF: Final = Exploration("off")
DAY_S: Final = 86_400.0
SAVED_SHARE: Final = 0.25
"""Of a day's cap, that may be saved up and spent at once. The rest comes in evenly: whatever the
traffic, no 24 hours see more than the cap."""
MOST_SHARE: Final = 0.01
"""Of what answers are worth, that `auto` may lose where no cap is set: the default cap in USD is a
tenth of what 200 turns a day are worth (`benchmarks/closed_loop`)."""


@dataclass(slots=True, eq=False)
class RegretBudget:
    """USD that exploring choices may be expected to lose: comes in evenly, is saved up to a limit.

    It begins empty, so that a process that starts again and again spends no more than one that
    runs on. Kept in memory and asked on the request path: no lock, no I/O.

    Attributes:
        usd_per_day: The cap of any 24 hours; 0 allows no regret at all.
        clock: Monotonic seconds.
        most_share: Of what the answers so far are worth, that may be lost; infinity is any.
        spent_usd: Since the start.
    """

    usd_per_day: float
    clock: Callable[[], float]
    most_share: float = inf
    spent_usd: float = field(default=0.0, init=False)
    _earned_usd: float = field(default=0.0, init=False)
    _left_usd: float = field(default=0.0, init=False)
    _at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._at_s = self.clock()
        if self.most_share == inf:
            self._earned_usd = inf

    def left_usd(self) -> float:
        """Return what an exploring choice may lose now."""
        self._come_in(self.clock())
        return min(self._left_usd, self._earned_usd)

    def _come_in(self, now_s: float) -> None:
        came = (1.0 - SAVED_SHARE) * self.usd_per_day * (now_s - self._at_s) / DAY_S
        self._left_usd = min(self._left_usd + came, SAVED_SHARE * self.usd_per_day)
        self._at_s = now_s

    def earn(self, worth_usd: float) -> None:
        """Allow a share of what an answer is expected to be worth; it is saved up as well."""
        if self.most_share < inf:
            earned = self._earned_usd + self.most_share * worth_usd
            self._earned_usd = min(earned, SAVED_SHARE * self.usd_per_day)

    def spend(self, regret_usd: float) -> None:
        """Take out what a choice is expected to lose; no more than `left_usd` allowed."""
        self._left_usd -= regret_usd
        self._earned_usd -= regret_usd
        self.spent_usd += regret_usd


@dataclass(slots=True, eq=False)
class LentRegret(RegretBudget):
    """A part of what many processes may lose together: nothing comes in but what is lent.

    Attributes:
        lent_usd: What this process was lent last, and did not give back.
    """

    lent_usd: float = field(default=0.0, init=False)
    _until_s: float = field(default=0.0, init=False)

    def lend(self, usd: float, until_s: float) -> None:
        """Allow `usd` until then; afterwards the lender takes all of it for spent."""
        self.lent_usd = self._left_usd = usd
        self._until_s = until_s

    def give_back(self) -> float:
        """End what was lent; return how much of it was spent."""
        self._come_in(self.clock())
        used_usd = self.lent_usd - self._left_usd
        self.lent_usd = self._left_usd = 0.0
        return used_usd

    def _come_in(self, now_s: float) -> None:
        if now_s >= self._until_s:
            self._left_usd = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Exploring:
    """Whether and how to explore now.

    Attributes:
        exploration: How, when it is time.
        is_time: Says whether exploring is worth anything: ungraded answers teach nothing.
        budget: What it may lose; None is without a cap.
    """

    exploration: Exploration
    is_time: Callable[[], bool]
    budget: RegretBudget | None

    def now(self) -> tuple[Exploration, float]:
        """Return how to explore, and the largest expected regret of a choice in USD."""
        if self.exploration.kind == "off" or not self.is_time():
            return OFF, inf
        return self.exploration, inf if self.budget is None else self.budget.left_usd()


def always() -> bool:
    """Explore from the first request: an operator asked for it."""
    return True


def never() -> bool:
    """Find no grade: there is no log to find one in."""
    return False


def exploring(
    settings: ExplorationSettings,
    is_graded: Callable[[], bool],
    clock: Callable[[], float],
    *,
    is_shared: bool = False,
) -> Exploring:
    """Make it of the settings.

    Args:
        is_graded: Says whether answers are graded, which `auto` waits for.
        clock: Monotonic seconds.
        is_shared: The cap is that of many processes, and somebody lends parts of it to this one.
    """
    is_auto = settings.kind == "auto"
    cap = settings.regret_cap_usd
    most_share = MOST_SHARE if settings.max_regret_usd_per_day is None else inf
    kind = LentRegret if is_shared else RegretBudget
    return Exploring(
        Exploration("uncertainty" if settings.kind == "auto" else settings.kind, settings.epsilon),
        is_graded if is_auto else always,
        None if cap is None else kind(cap, clock, most_share),
    )
