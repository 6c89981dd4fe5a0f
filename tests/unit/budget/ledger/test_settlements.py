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


KEY = "req_1:1795348800.125:k:-:c1:tnm.kri.cc0"
LEASE = Lease("req_1", "blue", "k", None, "c1", limit_codes(LIMITS), 1_795_348_800.125)


def test_the_idempotency_key_has_seven_fields_and_ends_in_its_version():
    assert (LEASE.idempotency_key, LEASE.late_idempotency_key) == (f"{KEY}:v1", f"{KEY}:v1-late")


@pytest.mark.parametrize("ending", ["", ":late"])
def test_a_key_from_before_there_was_a_version_is_still_read(ending):
    charge = UnjournaledCharge(KEY + ending, "blue", 1, 1, is_expired=True)

    assert settlement_from_charge(charge, 9.0).lease == LEASE


@pytest.mark.parametrize("key", ["theirs", f"{KEY}:v2"])
def test_a_charge_under_a_foreign_key_is_journaled_under_no_limit(key):
    row = settlement_from_charge(UnjournaledCharge(key, "blue", 1, 1, is_expired=True), 9.0)

    assert row.lease == Lease(key, "blue", "", None, None, " ", 9.0)


def test_codes_are_read_as_they_were_written():
    assert parse_limit_codes(limit_codes(LIMITS)) == {
        "tnm": ("team", "nusd", "month"),
        "kri": ("key", "requests", "minute"),
        "cc0": ("conversation", "concurrent", "now"),
    }


def test_every_code_stands_between_two_spaces():
    assert limit_codes(LIMITS) == " tnm kri cc0 "
    assert limit_codes(()) == " "
