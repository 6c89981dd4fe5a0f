"""What befalls three organisations: processes are killed, a member lies, a stranger knocks."""

import asyncio
import signal
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from federation.deployment.sessions import SessionRecord
from gateway.settings.config import load_settings
from tests.fakes.federation import PATIENCE_S, Daemon, Federation
from tests.fakes.organisations import NAMES, encoder, organisations
from tests.fakes.three_organisations import NODE, Demonstration, Party
from tests.fakes.turns import until

KILLED, LIAR, STRANGER = NAMES[0], "mallory", "stranger"
BAD_NODE = "tests.fakes.bad_node"


@dataclass(frozen=True, eq=False)
class Aftermath:
    """What a turbulent session left behind; in it a member sends NaN or hundredfold figures.

    Attributes:
        session: The coordinator was killed in a round, and a node in a later one.
        stranger_said: By the node whose key the coordinator does not know.
        liar: The member's node, which runs on.
    """

    session: SessionRecord
    stranger_said: str
    liar: Daemon
    parties: tuple[Party, ...]


async def turbulent(shown: Demonstration) -> Aftermath:
    """Train with a liar, while the coordinator and a node are killed and a stranger knocks."""
    federation, parties = shown.federation, shown.parties
    knocking = asyncio.create_task(knock(federation))
    liar = await join_badly(federation)
    await federation.connected(LIAR)
    session = federation.sessions.ask("test", datetime.now(UTC))
    await restart_in_a_round(federation, shown.coordinator, session)
    await kill_in_a_round(federation, parties[0].node)
    return Aftermath(await federation.ended(session), await knocking, liar, parties)


async def join_badly(federation: Federation) -> Daemon:
    """Start a node that spoils what it sends."""
    liar = replace(organisations()[1], name=LIAR)
    federation.lay_out_node(LIAR, liar.settings_text(federation.folder), NODE)
    liar.fill(load_settings(federation.settings_file(LIAR), {}), encoder(), seed=9)
    node = federation.module_daemon(LIAR, BAD_NODE, "join")
    await node.start()
    return node


async def restart_in_a_round(
    federation: Federation, coordinator: Daemon, session: SessionRecord
) -> None:
    """Kill the coordinator after a session's first round, and wait until it goes on."""
    await until(lambda: federation.checkpoint(session) is not None, PATIENCE_S)
    await coordinator.end(signal.SIGKILL)
    await coordinator.start()
    await until(lambda: federation.sessions.read(session.id).attempts == 2, PATIENCE_S)


async def kill_in_a_round(federation: Federation, node: Daemon) -> None:
    """Kill the node as soon as it is asked something in a round, and start it again."""
    before = federation.questions(KILLED)
    # The first question is the greeting.
    await until(lambda: federation.questions(KILLED) >= before + 2, PATIENCE_S)
    await node.end(signal.SIGKILL)
    await node.start()


async def knock(federation: Federation) -> str:
    """Start a node whose key is not with the coordinator's; returns what it was told."""
    somebody = replace(organisations()[0], name=STRANGER)
    stranger = federation.lay_out_node(STRANGER, somebody.settings_text(federation.folder))
    (federation.certificates.public_keys / f"{STRANGER}.pub").unlink()
    await stranger.start()
    await stranger.says("ended with status")
    await stranger.end()
    return stranger.output


async def masked_session(shown: Demonstration, liar: Daemon) -> SessionRecord:
    """Train without the liar after a kill, in such a way that sums alone can be read."""
    federation, coordinator = shown.federation, shown.coordinator
    await liar.end()
    await coordinator.end(signal.SIGKILL)
    file = federation.settings_file("coordinator")
    file.write_text(file.read_text().replace("quorum = 2", "quorum = 3") + "secure_sum = true\n")
    session = federation.sessions.ask("test", datetime.now(UTC))
    await coordinator.start()
    return await federation.ended(session)
