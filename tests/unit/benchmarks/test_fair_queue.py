"""The benchmark of the line, in short: simulated time makes it the same everywhere."""

from functools import partial

import numpy as np

from benchmarks.fair_queue.run import SMALL, fair, first_come, load, run


def test_a_team_with_a_hundred_times_the_load_slows_no_other_by_a_fifth() -> None:
    alone = run(partial(load, fair, 0, is_beside=False, lasts_s=400.0))[SMALL]
    beside = run(partial(load, fair, 0, is_beside=True, lasts_s=400.0))[SMALL]
    assert beside.refused == 0
    assert np.percentile(beside.taken_s, 95) < 1.2 * np.percentile(alone.taken_s, 95)


def test_in_one_line_half_of_its_calls_are_refused() -> None:
    beside = run(partial(load, first_come, 0, is_beside=True, lasts_s=400.0))[SMALL]
    assert beside.refused > len(beside.taken_s) / 2
