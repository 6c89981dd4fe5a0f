import calendar
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget.ledger.types import Window
from budget.ledger.windows import (
    DAY_S,
    HOUR_S,
    MINUTE_S,
    WEEK_S,
    window_bounds,
    window_start,
)
from tests.fakes.ledgers import bounds

LENGTHS_S = {"minute": MINUTE_S, "hour": HOUR_S, "day": DAY_S, "week": WEEK_S}
times = st.floats(0, 7_258_118_400.0, exclude_max=True)  # to the year 2200
windows = st.sampled_from(["minute", "hour", "day", "week", "month"])


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@given(windows, times)
def test_a_window_contains_its_time(window: Window, time: float) -> None:
    start, end = bounds(window, time)
    assert start <= time < end


@given(windows, times)
def test_windows_follow_each_other_without_a_gap(window: Window, time: float) -> None:
    start, end = bounds(window, time)
    assert window_start(window, end) == end
    assert bounds(window, start - 0.5)[1] == start


@given(st.sampled_from(sorted(LENGTHS_S)), times)
def test_all_but_months_have_one_length(window: Window, time: float) -> None:
    start, end = bounds(window, time)
    assert end - start == LENGTHS_S[window]


@given(times)
def test_weeks_begin_on_monday_at_midnight(time: float) -> None:
    start = datetime.fromtimestamp(window_start("week", time), UTC)
    assert (start.weekday(), start.hour, start.minute, start.second) == (0, 0, 0, 0)


@given(times)
def test_months_are_those_of_the_calendar(time: float) -> None:
    start, end = bounds("month", time)
    first = datetime.fromtimestamp(start, UTC)
    days = calendar.monthrange(first.year, first.month)[1]
    assert first.day == 1
    assert datetime.fromtimestamp(end, UTC) - first == timedelta(days=days)


@pytest.mark.parametrize(
    ("window", "time", "start", "end"),
    [
        ("month", "2024-02-29T23:59:59", "2024-02-01", "2024-03-01"),
        ("month", "2100-02-28T12:00:00", "2100-02-01", "2100-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("week", "2027-01-01T00:00:00", "2026-12-28", "2027-01-04"),
        ("week", "2018-12-31T00:00:00", "2018-12-31", "2019-01-07"),
        ("day", "2026-03-29T01:30:00", "2026-03-29", "2026-03-30"),
        ("hour", "2026-10-25T01:59:59", "2026-10-25T01", "2026-10-25T02"),
        (
            "minute",
            "2026-12-31T23:59:30",
            "2026-12-31T23:59",
            "2027-01-01T00:00",
        ),
    ],
)
def test_knows_the_awkward_days(window: Window, time: str, start: str, end: str) -> None:
    assert window_bounds(window, unix(time)) == (unix(start), unix(end))


@pytest.mark.parametrize("window", ["total", "now"])
@given(time=times)
def test_total_and_now_do_not_end(window: Window, time: float) -> None:
    assert window_bounds(window, time) == (0, None)
