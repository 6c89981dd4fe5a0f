"""A gateway with a scripted provider of each dialect behind it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.clients.upstream import REASONING, ScriptedProvider
from tests.fakes.processes import start
from tests.fakes.server import serve

COLUMNS: Final = {
    "auto": "auto",
    "chat": "gpt-4.1-mini",
    "responses": REASONING,
    "anthropic": "claude-sonnet-4-5",
}
"""The models that are asked. `auto` draws one of the other three at every turn, so that
conversations move between dialects."""
SETTINGS: Final = """
data_dir = "{folder}/data"
[server]
port = 0
admin_port = 0
[embedded]
enabled = false
[routing]
encoder = "static"
[routing.exploration]
kind = "epsilon"
epsilon = 1.0
[providers.chat]
base_url = "{url}/chat"
catalogue = "openai"
[providers.responses]
base_url = "{url}/responses-too"
catalogue = "openai"
responses = true
[providers.anthropic]
kind = "anthropic"
base_url = "{url}/messages"
api_key = "sk-scripted"
catalogue = "anthropic"
[models."gpt-4.1-mini"]
provider = "chat"
[models."{reasoning}"]
provider = "responses"
[models."claude-sonnet-4-5"]
provider = "anthropic"
[models.text-embedding-3-small]
provider = "chat"
"""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the gateway is, without ``/v1``, and a key of it."""

    url: str
    key: str


@asynccontextmanager
async def deployed(folder: Path) -> AsyncIterator[Deployment]:
    """Run them; what the provider is asked goes to ``requests.jsonl`` in `folder`."""
    async with AsyncExitStack() as stack:
        provider = ScriptedProvider(folder / "requests.jsonl")
        url = await stack.enter_async_context(serve(provider, lifespan="off"))
        file = folder / "waypost.toml"
        file.write_text(SETTINGS.format(folder=folder, url=url, reasoning=REASONING))
        gateway = await stack.enter_async_context(start(file, covered=False))
        address = await gateway.started()
        assert gateway.key is not None
        yield Deployment(address, gateway.key)
