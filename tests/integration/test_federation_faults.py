"""Nodes and the coordinator are killed, a stranger knocks, a member lies: training goes on."""

import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from federation.deployment.sessions import SessionRecord
from gateway.config import load_settings
from tests.fakes.federation import PATIENCE_S, Federation, federation_in
from tests.fakes.organisations import NAMES, encoder, organisations
from tests.fakes.three_organisations import NODE, Party, found, lay_out
from tests.fakes.turns import until

pytestmark = pytest.mark.xdist_group("federation")

KILLED, LIAR, STRANGER = NAMES[0], "mallory", "stranger"
NOBODY = "http://127.0.0.1:1"
BAD_NODE = "tests.fakes.bad_node"


@dataclass(frozen=True, eq=False)
class Aftermath:
    """What two turbulent sessions left behind.

    Attributes:
        first: Its coordinator was killed in a round, then a node; one member sent NaN.
        second: The coordinator was killed before it; one member sent hundredfold figures.
        stranger_said: By the node whose key the coordinator does not know.
    """

    first: SessionRecord
    second: SessionRecord
    stranger_said: str
    parties: tuple[Party, ...]


async def first_session(federation: Federation, parties: tuple[Party, ...]) -> SessionRecord:
    """Kill the coordinator in a round, and in a later one a node."""
    coordinator = lay_out(federation, quorum=2)
    liar = federation.module_daemon(LIAR, BAD_NODE, "nan")
    session = federation.sessions.ask("test", datetime.now(UTC))
    for daemon in (coordinator, liar, *(party.node for party in parties)):
        await daemon.start()
    await until(lambda: federation.checkpoint(session) is not None, PATIENCE_S)
    await coordinator.end(signal.SIGKILL)
    kept = federation.checkpoint(session)
    await coordinator.start()
    await until(lambda: federation.checkpoint(session) != kept, PATIENCE_S)
    answered = federation.questions(KILLED)
    await until(lambda: federation.questions(KILLED) > answered, PATIENCE_S)
    await parties[0].node.end(signal.SIGKILL)
    await parties[0].node.start()
    session = await federation.ended(session)
    await coordinator.end(signal.SIGKILL)
    await liar.end()
    return session


async def second_session(federation: Federation) -> tuple[SessionRecord, str]:
    """Start the coordinator again, with another liar and a stranger."""
    somebody = replace(organisations()[0], name=STRANGER)
    stranger = federation.lay_out_node(STRANGER, somebody.settings_text(federation.folder))
    (federation.certificates.public_keys / f"{STRANGER}.pub").unlink()
    daemons = (
        federation.daemon("coordinator", "federation", "coordinator"),
        federation.module_daemon(LIAR, BAD_NODE, "100"),
        stranger,
    )
    for daemon in daemons:
        await daemon.start()
    await stranger.says("ended with status")
    session = await federation.train()
    return session, stranger.output


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aftermath(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Aftermath]:
    async with federation_in(tmp_path_factory.mktemp("faults")) as federation:
        honest = enumerate(organisations())
        parties = tuple(found(federation, each, NOBODY, seed) for seed, each in honest)
        liar = replace(organisations()[1], name=LIAR)
        federation.lay_out_node(LIAR, liar.settings_text(federation.folder), NODE)
        liar.fill(load_settings(federation.settings_file(LIAR), {}), encoder(), seed=9)
        first = await first_session(federation, parties)
        second, stranger_said = await second_session(federation)
        yield Aftermath(first, second, stranger_said, parties)


def rejections(session: SessionRecord, site: str) -> list[str]:
    """Why a site's answers did not count."""
    rounds = session.report["rounds"]
    return [each["rejected"][site] for each in rounds if site in each["rejected"]]


def test_a_session_goes_on_after_its_coordinator_was_killed_in_a_round(aftermath):
    assert aftermath.first.state == "finished", aftermath.first.reason
    assert aftermath.first.attempts == 2


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
    reasons = rejections(aftermath.first, LIAR)

    assert reasons
    assert all("finite" in reason for reason in reasons)
    assert not any(LIAR in each["accepted"] for each in aftermath.first.report["rounds"])


def test_hundredfold_figures_are_dropped_with_a_reason(aftermath):
    assert rejections(aftermath.second, LIAR)


def test_a_node_with_an_unknown_key_is_told_so_and_takes_no_part(aftermath):
    assert "does not know this node's key" in aftermath.stranger_said
    assert STRANGER not in aftermath.second.report["members"]


@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_no_gateway_serves_a_worse_router_than_before(aftermath, place):
    party = aftermath.parties[place]

    before, after = party.merit(party.local_version), party.merit(party.store.active())

    assert after.area >= before.area
