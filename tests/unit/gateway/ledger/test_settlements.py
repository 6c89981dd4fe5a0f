import pytest

from gateway.ledger.settlements import EXPIRED, Lease, expired_settlement, limit_codes
from gateway.ledger.types import ExpiredLease, Limit, Scope

LIMITS = (
    Limit(Scope("blue", "team"), "nusd", "month", 1),
    Limit(Scope("blue", "key", "k"), "requests", "minute", 1),
    Limit(Scope("blue", "conversation", "c"), "concurrent", "now", 1),
)


@pytest.mark.parametrize(("user", "talk"), [(None, None), ("u" * 32, "c" * 32)])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_lease_found_expired_says_whose_it_was(user, talk, is_late):
    lease = Lease("req_1", "blue", "k", user, talk, limit_codes(LIMITS), 1_795_348_800.125)
    name = lease.late_name if is_late else lease.name

    row = expired_settlement(ExpiredLease(name, "blue", 70, 7), 9.0)

    assert row is not None
    assert row.lease == lease
    assert (row.charged_nusd, row.held_tokens, row.outcome) == (70, 7, EXPIRED)
    assert row.is_estimated


def test_a_lease_of_somebody_else_has_no_row():
    assert expired_settlement(ExpiredLease("theirs", "blue", 1, 1), 9.0) is None


def test_every_code_stands_between_two_spaces():
    assert limit_codes(LIMITS) == " tnm kri cc0 "
    assert limit_codes(()) == " "
