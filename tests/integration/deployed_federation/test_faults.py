"""Nodes and the coordinator are killed, a stranger knocks, a member lies: training goes on."""

import signal
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from federation.deployment.sessions import SessionRecord
from gateway.config import load_settings
from tests.fakes.federation import PATIENCE_S, Daemon, Federation
from tests.fakes.organisations import NAMES, encoder, organisations
from tests.fakes.three_organisations import NODE, Demonstration, Party
from tests.fakes.turns import until

pytestmark = pytest.mark.xdist_group("federation")

KILLED, LIAR, STRANGER = NAMES[0], "mallory", "stranger"
BAD_NODE = "tests.fakes.bad_node"


@dataclass(frozen=True, eq=False)
class Aftermath:
    """What two turbulent sessions left behind; in both a member sends NaN or hundredfold figures.

    Attributes:
        first: A node was killed in a round.
        second: The coordinator was killed before it, and in a round.
        stranger_said: By the node whose key the coordinator does not know.
    """

    first: SessionRecord
    second: SessionRecord
    stranger_said: str
    parties: tuple[Party, ...]


async def without_a_node(federation: Federation, node: Daemon) -> SessionRecord:
    """Kill the node as soon as it is asked something in a round, and start it again."""
    before = federation.questions(KILLED)
    session = federation.sessions.ask("test", datetime.now(UTC))
    # The first question is the greeting.
    await until(lambda: federation.questions(KILLED) >= before + 2, PATIENCE_S)
    await node.end(signal.SIGKILL)
    await node.start()
    return await federation.ended(session)


async def without_the_coordinator(federation: Federation, coordinator: Daemon) -> SessionRecord:
    """Kill the coordinator before a session and in a round of it."""
    await coordinator.end(signal.SIGKILL)
    session = federation.sessions.ask("test", datetime.now(UTC))
    await coordinator.start()
    await until(lambda: federation.checkpoint(session) is not None, PATIENCE_S)
    await coordinator.end(signal.SIGKILL)
    await coordinator.start()
    return await federation.ended(session)


async def knock(federation: Federation) -> str:
    """Start a node whose key is not with the coordinator's; returns what it was told."""
    somebody = replace(organisations()[0], name=STRANGER)
    stranger = federation.lay_out_node(STRANGER, somebody.settings_text(federation.folder))
    (federation.certificates.public_keys / f"{STRANGER}.pub").unlink()
    await stranger.start()
    await stranger.says("ended with status")
    await stranger.end()
    return stranger.output


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def aftermath(shown: Demonstration, masked: SessionRecord) -> Aftermath:
    del masked  # needs nodes that all tell the truth: before a liar joins
    federation, parties = shown.federation, shown.parties
    liar = replace(organisations()[1], name=LIAR)
    federation.lay_out_node(LIAR, liar.settings_text(federation.folder), NODE)
    liar.fill(load_settings(federation.settings_file(LIAR), {}), encoder(), seed=9)
    await federation.module_daemon(LIAR, BAD_NODE, "join").start()
    stranger_said = await knock(federation)
    await federation.connected(LIAR)
    first = await without_a_node(federation, parties[0].node)
    second = await without_the_coordinator(federation, shown.coordinator)
    return Aftermath(first, second, stranger_said, parties)


def rejections(session: SessionRecord, site: str) -> list[str]:
    """Why a site's answers did not count."""
    rounds = session.report["rounds"]
    return [each["rejected"][site] for each in rounds if site in each["rejected"]]


def test_a_session_goes_on_after_its_coordinator_was_killed_in_a_round(aftermath):
    assert aftermath.second.state == "finished", aftermath.second.reason
    assert aftermath.second.attempts == 2


def test_a_round_goes_on_without_a_node_that_was_killed_in_it(aftermath):
    others = set(NAMES) - {KILLED}
    without = [r for r in aftermath.first.report["rounds"] if KILLED not in r["accepted"]]

    assert without
    assert all(others <= set(each["accepted"]) for each in without)


def test_a_node_that_was_killed_gets_the_router_when_it_is_back(aftermath):
    assert KILLED in aftermath.first.report["verdicts"]


def test_a_coordinator_killed_between_sessions_trains_again(aftermath):
    assert aftermath.second.state == "finished", aftermath.second.reason
    assert set(NAMES) <= set(aftermath.second.report["members"])


def test_what_is_not_finite_is_dropped_with_a_reason(aftermath):
    assert [reason for reason in rejections(aftermath.first, LIAR) if "finite" in reason]


def test_hundredfold_figures_are_dropped_with_a_reason(aftermath):
    assert [reason for reason in rejections(aftermath.first, LIAR) if "finite" not in reason]


def test_nothing_that_a_liar_sent_counts(aftermath):
    for session in (aftermath.first, aftermath.second):
        assert not any(LIAR in each["accepted"] for each in session.report["rounds"])


def test_a_node_with_an_unknown_key_is_told_so_and_takes_no_part(aftermath):
    assert "does not know this node's key" in aftermath.stranger_said
    assert STRANGER not in aftermath.second.report["members"]


@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_no_gateway_serves_a_worse_router_than_before(aftermath, place):
    party = aftermath.parties[place]

    before, after = party.merit(party.local_version), party.merit(party.store.active())

    assert after.area >= before.area
