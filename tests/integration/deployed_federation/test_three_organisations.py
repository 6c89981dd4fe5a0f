"""Three organisations as real processes, with TLS and node keys, end up with better routers."""

import pytest

from tests.fakes.organisations import NAMES

pytestmark = pytest.mark.xdist_group("federation")


def test_a_session_ends_with_a_router_that_every_site_judged(shown):
    assert shown.session.state == "finished", shown.session.reason
    assert set(shown.session.report["members"]) == set(NAMES)
    assert set(shown.session.report["verdicts"]) == set(NAMES)


def test_every_gateway_activated_what_came_out(shown):
    outcomes = {n: v["outcome"] for n, v in shown.session.report["verdicts"].items()}

    assert outcomes == dict.fromkeys(NAMES, "activated"), shown.session.report["verdicts"]
    for party in shown.parties:
        verdict = shown.session.report["verdicts"][party.organisation.name]
        assert party.shared_version == verdict["version"]


@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_every_gateway_routes_better_than_its_local_router_did(shown, place):
    party = shown.parties[place]

    before, after = party.merit(party.local_version), party.merit(party.shared_version)

    assert after.area > before.area
    assert after.gain > before.gain


@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_no_request_fails_while_the_router_is_swapped(shown, place):
    party = shown.parties[place]

    assert set(party.answers) == {(200, party.local_version), (200, party.shared_version)}


def test_one_command_goes_back_to_the_local_router(shown):
    party = shown.parties[0]
    for version in (party.local_version, party.shared_version):
        party.store.activate(version)

    party.store.rollback()

    assert party.store.active() == party.local_version
    party.store.activate(party.shared_version)
