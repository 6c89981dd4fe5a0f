"""Calendar windows in UTC: pure functions of a time in Unix seconds.

Unix time has no leap seconds and UTC no summer time, so every day has 86,400 s.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from budget.ledger.types import Window

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
WEEK_S: Final = 7 * DAY_S
_FIRST_MONDAY_S = 4 * DAY_S  # 1970-01-05
_LENGTHS_S = {"minute": MINUTE_S, "hour": HOUR_S, "day": DAY_S}


def window_bounds(window: Window, unix_s: float) -> tuple[int, int | None]:
    """Find the window that contains a time.

    Returns:
        Its first second and the first second after it; ``(0, None)`` for ``total`` and ``now``,
        which do not end.
    """
    second = int(unix_s // 1)
    length = _LENGTHS_S.get(window)
    if length is not None:
        start = second - second % length
        return start, start + length
    if window == "week":
        start = second - (second - _FIRST_MONDAY_S) % WEEK_S
        return start, start + WEEK_S
    if window == "month":
        return _month(second)
    return 0, None


def window_start(window: Window, unix_s: float) -> int:
    """Find the first second of the window that contains a time; 0 where it has no end."""
    return window_bounds(window, unix_s)[0]


def is_counted_now(window: Window, start_s: int, unix_s: float) -> bool:
    """Whether what was counted in the window that begins at `start_s` counts at a time.

    It does in that window and in the one before: a clock that is set back does not reopen a window.
    What lies further ahead was counted while the clock was wrong, and is no debt.
    """
    return start_s in window_bounds(window, unix_s)


def _month(second: int) -> tuple[int, int]:
    midnight = datetime.fromtimestamp(second - second % DAY_S, UTC)
    first = midnight.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return int(first.timestamp()), int(following.timestamp())
