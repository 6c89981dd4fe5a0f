"""Three organisations train once more, and only the sums of what they say can be read."""

import pytest

from tests.fakes.organisations import NAMES

pytestmark = pytest.mark.xdist_group("federation")


def test_a_session_of_masked_sums_ends_with_a_router_that_every_site_judged(masked):
    assert masked.state == "finished", masked.reason
    assert set(masked.report["verdicts"]) == set(NAMES)


def test_keys_are_exchanged_before_every_masked_sum(masked):
    rounds = [each["exchange"] for each in masked.report["rounds"]]

    for sums in ("query.rows", "train.cells"):
        assert rounds[rounds.index(sums) - 1] == "query.keys"


def test_no_site_is_left_out_of_a_masked_sum(masked):
    assert all(set(each["accepted"]) == set(NAMES) for each in masked.report["rounds"])
