"""Teams take turns for the places of a provider: seen where its upstream gets the calls."""

import asyncio
from typing import Any

import pytest

from gateway.access.keys import KeyStore
from tests.fakes.gateway import SMALL, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import ScriptedUpstream, completion, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
PLACES = 8
FEW = 4
MANY = 100 * FEW


class HeldUpstream(ScriptedUpstream):
    """Answers one call for each `let`, and notes the order in which the calls came."""

    def __init__(self) -> None:
        super().__init__(json_answer(completion()))
        self.came: list[str] = []
        self._may_go = asyncio.Semaphore(0)

    def let(self) -> None:
        """Let one call be answered."""
        self._may_go.release()

    async def _play(self, answer: Any, received: Any, scope: Any, send: Any) -> None:
        self.came.append(received.body["messages"][0]["content"])
        await self._may_go.acquire()
        await super()._play(answer, received, scope, send)


async def until(is_so: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 -- the upstream and the limiter give no event
            await asyncio.sleep(0.001)


async def test_a_team_with_a_hundred_times_the_load_delays_another_by_one_place_a_call(tmp_path):
    upstream = HeldUpstream()
    async with running_gateway(tmp_path, limits={"max_concurrency": PLACES}) as gateway:
        gateway.upstreams.by_name["alpha"] = upstream
        store = KeyStore(gateway.engine)
        store.create_team("small")
        key = store.create_key("small", "few").secret.get_secret_value()
        alpha = gateway.app.public.turns[CHAT].service.providers["alpha"]
        async with gateway.caller() as large, gateway.caller(key) as small:

            def ask(http: Any, team: str) -> Any:
                body = {"model": SMALL, "messages": [{"role": "user", "content": team}]}
                return asyncio.create_task(http.post(CHAT, json=body))

            asked = [ask(large, "large") for _ in range(MANY)]
            refused = MANY - 2 * PLACES
            await until(lambda: alpha.condition().refused["full"] == refused)
            await until(lambda: len(upstream.came) == PLACES)
            few = []
            for n in range(1, FEW + 1):
                few.append(ask(small, "small"))
                await until(lambda n=n: alpha.condition().refused["full"] == refused + n)
            for n in range(1, 2 * FEW + 1):
                upstream.let()
                await until(lambda n=n: len(upstream.came) == PLACES + n)
            for _ in range(len(asked)):
                upstream.let()
            answers = [await one for one in few]
            await asyncio.gather(*asked)

    assert upstream.came[PLACES : PLACES + 2 * FEW] == ["large", "small"] * FEW
    assert [answer.status_code for answer in answers] == [200] * FEW
