"""Nodes and the coordinator are killed, a stranger knocks, a member lies: training goes on."""

import pytest

from federation.deployment.sessions import SessionRecord
from tests.fakes.organisations import NAMES
from tests.fakes.turbulence import KILLED, LIAR, STRANGER

pytestmark = pytest.mark.xdist_group("federation")


def rejections(session: SessionRecord, site: str) -> list[str]:
    """Why a site's answers did not count."""
    rounds = session.report["rounds"]
    return [each["rejected"][site] for each in rounds if site in each["rejected"]]


def test_a_session_goes_on_after_its_coordinator_was_killed_in_a_round(aftermath):
    session = aftermath.session

    assert session.state == "finished", session.reason
    assert session.attempts == 2
    assert min(each["round"] for each in session.report["rounds"]) > 1


def test_a_round_goes_on_without_a_node_that_was_killed_in_it(aftermath):
    others = set(NAMES) - {KILLED}
    without = [r for r in aftermath.session.report["rounds"] if KILLED not in r["accepted"]]

    assert without
    assert all(others <= set(each["accepted"]) for each in without)


def test_a_node_that_was_killed_gets_the_router_when_it_is_back(aftermath):
    assert KILLED in aftermath.session.report["verdicts"]


def test_a_coordinator_killed_between_sessions_trains_again(masked):
    assert masked.state == "finished", masked.reason
    assert set(NAMES) <= set(masked.report["members"])


def test_what_is_not_finite_is_dropped_with_a_reason(aftermath):
    assert [reason for reason in rejections(aftermath.session, LIAR) if "finite" in reason]


def test_hundredfold_figures_are_dropped_with_a_reason(aftermath):
    assert [reason for reason in rejections(aftermath.session, LIAR) if "finite" not in reason]


def test_nothing_that_a_liar_sent_counts(aftermath):
    assert not any(LIAR in each["accepted"] for each in aftermath.session.report["rounds"])


def test_a_node_with_an_unknown_key_is_told_so_and_takes_no_part(aftermath):
    assert "does not know this node's key" in aftermath.stranger_said
    assert STRANGER not in aftermath.session.report["members"]


@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_no_gateway_serves_a_worse_router_than_before(aftermath, place):
    party = aftermath.parties[place]

    before, after = party.merit(party.local_version), party.merit(party.store.active())

    assert after.area >= before.area
