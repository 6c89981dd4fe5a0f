"""A gateway process to attack, with upstreams that can be of bad will."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from gateway.access.keys import KeyStore, ensure_first_key
from gateway.storage.database import create_database_engine, ensure_schema
from tests.fakes.budgets import budget
from tests.fakes.gateway import CLAUDE, PRICE, SMALL, Upstreams
from tests.fakes.patience import PATIENCE_S
from tests.fakes.processes import caller, start
from tests.fakes.server import serve
from tests.fakes.upstream import Answer, anthropic_stream_chunks, completion, json_answer

SETTINGS = f"""
data_dir = "{{data}}"
[server]
port = 0
admin_port = 0
[embedded]
enabled = false
[evaluation_log]
flush_interval_s = 0.01
[keys]
read_timeout_s = {PATIENCE_S}
[providers.alpha]
base_url = "{{upstream}}/alpha/v1"
max_retries = 2
breaker_failures = 1000
[providers.gamma]
base_url = "{{upstream}}/gamma"
kind = "anthropic"
max_retries = 2
breaker_failures = 1000
[models.{SMALL}]
provider = "alpha"
price = {{{{ input_usd_per_mtok = {PRICE["input_usd_per_mtok"]}, output_usd_per_mtok = 2.0 }}}}
[models.{CLAUDE}]
provider = "gamma"
price = {{{{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}}}
"""


@dataclass(frozen=True)
class Target:
    """A gateway process under attack."""

    url: str
    pid: int
    upstreams: Upstreams
    http: httpx2.AsyncClient

    def answer_as_usual(self) -> None:
        """Forget what the upstreams saw; let each answer as it does where nothing is wrong."""
        self.upstreams.reset()
        self.upstreams.by_name["alpha"].answers = [json_answer(completion())]
        self.upstreams.by_name["gamma"].answers = [Answer(tuple(anthropic_stream_chunks()))]


@asynccontextmanager
async def under_attack(directory: Path) -> AsyncIterator[Target]:
    """A gateway whose team lets its answers be verified, under a budget that is never reached."""
    upstreams = Upstreams()
    engine = create_database_engine(f"sqlite:///{directory / 'waypost.db'}")
    ensure_schema(engine)
    key = ensure_first_key(engine)
    assert key is not None
    KeyStore(engine).update_team("default", trains_reasoner=True)
    budget(engine, 2**50, team_id="default", scope="key", measure="tokens")
    engine.dispose()
    async with serve(upstreams, lifespan="off") as upstream_url:
        file = directory / "waypost.toml"
        file.write_text(SETTINGS.format(data=directory, upstream=upstream_url))
        async with start(file, covered=False) as serving:
            url = await serving.started()
            async with caller(url, key) as http:
                yield Target(url, serving.process.pid, upstreams, http)
