import pytest

from budget.ledger.settlements import (
    EXPIRED,
    RECOVERED,
    Lease,
    limit_codes,
    parse_limit_codes,
    settlement_from_charge,
)
from budget.ledger.types import Limit, Scope, UnjournaledCharge

LIMITS = (
    Limit(Scope("blue", "team"), "nusd", "month", 1),
    Limit(Scope("blue", "key", "k"), "requests", "minute", 1),
    Limit(Scope("blue", "conversation", "c"), "concurrent", "now", 1),
)


@pytest.mark.parametrize(("user", "talk"), [(None, None), ("u" * 32, "c" * 32)])
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("is_expired", "outcome"), [(True, EXPIRED), (False, RECOVERED)])
def test_a_charge_that_was_found_says_whose_it_was(user, talk, is_late, is_expired, outcome):
    lease = Lease("req_1", "blue", "k", user, talk, limit_codes(LIMITS), 1_795_348_800.125)
    name = lease.late_idempotency_key if is_late else lease.idempotency_key

    found = UnjournaledCharge(name, "blue", 70, 7, is_expired)
    row = settlement_from_charge(found, 9.0)

    assert row.lease == lease
    assert (row.charged_nusd, row.held_tokens, row.outcome) == (70, 7, outcome)
    assert row.is_estimated
    assert row.acknowledges == found


def test_a_charge_of_another_program_is_journaled_under_no_limit():
    row = settlement_from_charge(UnjournaledCharge("theirs", "blue", 1, 1, is_expired=True), 9.0)

    assert row.lease == Lease("theirs", "blue", "", None, None, " ", 9.0)


def test_codes_are_read_as_they_were_written():
    assert parse_limit_codes(limit_codes(LIMITS)) == {
        "tnm": ("team", "nusd", "month"),
        "kri": ("key", "requests", "minute"),
        "cc0": ("conversation", "concurrent", "now"),
    }


def test_every_code_stands_between_two_spaces():
    assert limit_codes(LIMITS) == " tnm kri cc0 "
    assert limit_codes(()) == " "
