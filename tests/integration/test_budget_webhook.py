"""A gateway that is told where to tell of budgets tells it."""

from typing import Any

import orjson

from gateway.budgets.definitions import BudgetDefinitions
from tests.fakes.gateway import SMALL, running_gateway
from tests.fakes.server import serve
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": SMALL, "messages": [{"role": "user", "content": "What?"}]}


async def test_what_was_spent_before_a_start_is_told_at_the_start(tmp_path):
    taken: list[dict[str, Any]] = []

    async def webhook(scope: Any, receive: Any, send: Any) -> None:
        taken.append(orjson.loads((await receive())["body"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with running_gateway(tmp_path) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        definitions = BudgetDefinitions(gateway.engine)
        named: dict[str, Any] = {"team_id": "default", "scope": "team", "scope_id": None}
        made = definitions.create(**named, measure="tokens", window="total", cap=10**9)
        await until(lambda: gateway.app.budgets.book.revision > 0)
        async with gateway.caller() as http:
            await http.post(CHAT, json=BODY)
        (turn,) = await gateway.turns(1)
        used = turn.prompt_tokens + turn.completion_tokens
        definitions.set_cap(made.id, used)

    async with serve(webhook) as url, running_gateway(tmp_path, budgets={"webhook_url": url}):
        pass

    (notice,) = taken
    assert (notice["percent"], notice["spent"]) == (100, used)
    assert notice["budget"]["id"] == made.id
