"""The whole of a federation at work: what the test of it asserts and the demonstration prints."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from federation.deployment.sessions import SessionRecord
from gateway.artifacts.store import ArtifactStore
from gateway.settings.config import load_settings
from tests.fakes.federation import PATIENCE_S, Daemon, Federation, federation_in
from tests.fakes.organisations import NAMES, OWN_NAMES, Merit, Organisation, encoder, organisations
from tests.fakes.server import serve
from tests.fakes.turns import until
from tests.fakes.upstream import ScriptedUpstream, completion, json_answer

CHAT = "/v1/chat/completions"
FIRST_SEED = 18
"""Which answers are logged. Of six tried, the one whose verdicts are farthest from their limit:
the last bits of a sum differ from one kind of CPU to another, and must not change a verdict."""
TRAINING = """
kind = "kmeans"
training = {{ clusters = 24, local_clusters = 24 }}
least_rows = 5
models = {{ {names} }}
"""
NODE = "least_rows = 5\npoll_s = 0.3\ntrusts_coordinator = true\n"
PAUSE_S = 0.2
"""Between two queries of a caller."""


@dataclass(eq=False)
class Party:
    """One organisation, its gateway and its node.

    Attributes:
        key: Of a caller of its gateway.
        local_version: Of the router that learned from its own log alone.
        shared_version: Of the router that served here once the federation had trained.
        answers: Status and router version of every request while it trained.
    """

    organisation: Organisation
    settings_file: Path
    key: str
    local_version: str
    gateway: Daemon
    node: Daemon
    shared_version: str = ""
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)

    @property
    def store(self) -> ArtifactStore:
        """Its routers."""
        return ArtifactStore(load_settings(self.settings_file, {}).artifact_dir)

    def merit(self, version: str) -> Merit:
        """Measure one of its routers on queries that nobody has seen."""
        return self.organisation.merit(self.store.read(version), encoder())

    async def ask_on(self, is_over: asyncio.Event) -> None:
        """Ask one query after the other."""
        url = (await self.gateway.says(r"Waypost serves (http://[\d.:]+)/v1"))[1]
        headers = {"authorization": f"Bearer {self.key}"}
        async with httpx2.AsyncClient(
            base_url=url, headers=headers, trust_env=False, timeout=30
        ) as http:
            while not is_over.is_set():
                text = self.organisation.texts[self.answers.total() % 100]
                body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
                answer = await http.post(CHAT, json=body)
                version = answer.headers.get("x-waypost-router-version", "")
                self.answers[answer.status_code, version] += 1
                await asyncio.sleep(PAUSE_S)

    async def follows(self) -> None:
        """Wait until its gateway routes with the version that was activated."""
        self.shared_version = self.store.active() or ""
        await until(lambda: (200, self.shared_version) in self.answers, PATIENCE_S)


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What came of one session among three organisations, whose nodes run on."""

    session: SessionRecord
    parties: tuple[Party, ...]
    federation: Federation
    coordinator: Daemon


@asynccontextmanager
async def demonstrated(folder: Path, say: Callable[[str], None]) -> AsyncIterator[Demonstration]:
    """Fill three gateways, start everything, train while callers ask, and wait for the swap."""
    async with AsyncExitStack() as stack:
        upstream = ScriptedUpstream(json_answer(completion()))
        url = await stack.enter_async_context(serve(upstream, lifespan="off"))
        federation = await stack.enter_async_context(federation_in(folder))
        coordinator = lay_out(federation)
        await coordinator.start()
        parties = []
        for seed, organisation in enumerate(organisations(), FIRST_SEED):
            party = found(federation, organisation, url, seed)
            say(f"{organisation.name}: {organisation.logged.sum()} queries logged, router learned")
            await asyncio.gather(party.gateway.start(), party.node.start())
            parties.append(party)
        await federation.connected(*NAMES)
        say(f"started a coordinator, {len(parties)} gateways and their nodes")
        is_over = asyncio.Event()
        asking = [asyncio.create_task(party.ask_on(is_over)) for party in parties]
        session = await federation.train()
        say(f"session {session.id} {session.state}: {session.reason or 'no problem'}")
        await asyncio.gather(*(party.follows() for party in parties))
        is_over.set()
        await asyncio.gather(*asking)
        await asyncio.gather(*(party.gateway.end() for party in parties))
        yield Demonstration(session, tuple(parties), federation, coordinator)


def lay_out(federation: Federation) -> Daemon:
    """Lay out the coordinator of these organisations."""
    other = {shared: own for names in OWN_NAMES.values() for shared, own in names.items()}
    names = ", ".join(f'"{shared}" = ["{own}"]' for shared, own in other.items())
    return federation.lay_out_coordinator(more=TRAINING.format(names=names))


def found(federation: Federation, organisation: Organisation, upstream: str, seed: int) -> Party:
    settings = organisation.settings_text(federation.folder, upstream)
    name = organisation.name
    node = federation.lay_out_node(name, settings, NODE)
    file = federation.settings_file(name)
    key = organisation.fill(load_settings(file, {}), encoder(), seed)
    local = organisation.train_locally(file, federation.folder / f"{name}.router")
    return Party(organisation, file, key, local, federation.daemon(name, "serve"), node)
