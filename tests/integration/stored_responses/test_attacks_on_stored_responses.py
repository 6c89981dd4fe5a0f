"""Nobody but its team reads, deletes or goes on from a stored response, nor for ever."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from sqlalchemy import func, select

from gateway.access.keys import KeyStore
from gateway.budgets.definitions import BudgetDefinitions
from migrations.tables import STORED_RESPONSES
from tests.fakes.budgets import budget
from tests.fakes.gateway import SMALL, RunningGateway
from tests.fakes.stored_responses import ids_in, neighbour, opted_in, sdk_of
from tests.fakes.turns import until
from tests.fakes.upstream import Answer, chunk, completion, json_answer

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("attacks on stored responses"),  # one gateway
]

RESPONSES = "/v1/responses"


async def test_no_other_team_sees_deletes_or_goes_on_from_a_response(
    gateway: RunningGateway, client: Any
) -> None:
    told = await client.responses.create(model=SMALL, input="A secret.")
    async with sdk_of(gateway, neighbour(gateway)) as theirs:
        for ask in (
            theirs.responses.retrieve(told.id),
            theirs.responses.delete(told.id),
            theirs.responses.input_items.list(told.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await ask
        asked = len(gateway.alpha.requests)
        with pytest.raises(openai.BadRequestError):
            await theirs.responses.create(model=SMALL, input="And?", previous_response_id=told.id)
        assert len(gateway.alpha.requests) == asked
    assert (await client.responses.retrieve(told.id)).id == told.id


BAD = {
    "no string": ({"previous_response_id": 3}, 400),
    "unknown": ({"previous_response_id": "resp_0"}, 400),
    "NUL": ({"previous_response_id": "resp_\0"}, 400),
    "conversation": ({"conversation": "conv_1"}, 404),
}


@pytest.mark.parametrize(("fields", "status"), BAD.values(), ids=BAD.keys())
async def test_what_nothing_can_be_gone_on_from_is_refused(
    http: httpx2.AsyncClient, fields: Any, status: int
) -> None:
    answer = await http.post(RESPONSES, json={"model": SMALL, "input": "Hi", **fields})
    assert answer.status_code == status
    assert answer.json()["error"]["param"] in (*fields, None)


async def test_a_conversation_is_no_longer_than_a_request_may_be(
    client: Any, http: httpx2.AsyncClient
) -> None:
    long = "x" * 600_000  # of a megabyte
    told = await client.responses.create(model=SMALL, input=long)
    body = {"model": SMALL, "input": long, "previous_response_id": told.id}
    assert (await http.post(RESPONSES, json=body)).status_code == 413
    assert (await http.post(RESPONSES, json={**body, "input": "Hi"})).status_code == 200


async def test_going_on_by_ids_does_not_leave_the_budget_of_a_conversation(tmp_path: Path) -> None:
    settings = {"definitions_poll_s": 0.01}
    async with opted_in(tmp_path, budgets=settings) as gateway, sdk_of(gateway) as client:
        gateway.alpha.answers = [json_answer(completion())]
        cap = {"team_id": "default", "scope": "conversation", "measure": "requests"}
        budget(gateway.engine, 2, **cap)
        book = gateway.app.budgets.book
        newest = BudgetDefinitions(gateway.engine).changes(0, 1000)[-1].revision
        await until(lambda: book.revision >= newest)
        begun = await client.responses.create(model=SMALL, input="1")
        second, _ = [await going_on(client, begun.id) for _ in range(2)]
        for refused in (begun.id, second.id):
            with pytest.raises(openai.RateLimitError):
                await going_on(client, refused)
        await going_on(client, (await client.responses.create(model=SMALL, input="1")).id)


def going_on(client: Any, response_id: str) -> Any:
    return client.responses.create(model=SMALL, input="x", previous_response_id=response_id)


async def test_a_team_that_did_not_opt_in_is_told_so(gateway: RunningGateway) -> None:
    store = KeyStore(gateway.engine)
    if "plain" not in [team.id for team in store.teams()]:
        store.create_team("plain")
    key = store.create_key("plain", "k").secret.get_secret_value()
    async with sdk_of(gateway, key) as client:
        told = await client.responses.create(model=SMALL, input="Hi", store=True)
        assert told.to_dict()["store"] is False
        with pytest.raises(openai.BadRequestError, match="no responses are stored here"):
            await client.responses.create(model=SMALL, input="Hi", previous_response_id=told.id)
        with pytest.raises(openai.NotFoundError, match="No response is stored here"):
            await client.responses.retrieve(told.id)
    with gateway.engine.connect() as connection:
        kept = select(func.count()).where(STORED_RESPONSES.c.team_id == "plain")
        assert connection.execute(kept).scalar() == 0


async def test_who_opts_out_has_what_was_kept_erased(gateway: RunningGateway) -> None:
    store, key = KeyStore(gateway.engine), neighbour(gateway)
    async with sdk_of(gateway, key) as client:
        told = await client.responses.create(model=SMALL, input="Hi")
        await client.responses.retrieve(told.id)
    store.update_team("neighbour", stores_responses=False)
    assert told.id not in ids_in(gateway.engine)
    store.update_team("neighbour", stores_responses=True)


async def test_a_response_that_broke_off_is_not_stored(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    gateway.alpha.answers = [Answer((chunk({"content": "Hel"}),), cuts_off=True)]
    before = len(ids_in(gateway.engine))
    body = {"model": SMALL, "input": "Hi", "stream": True}
    async with http.stream("POST", RESPONSES, json=body) as answer:
        events = "".join([text async for text in answer.aiter_text()])
    assert "response.failed" in events
    await asyncio.sleep(0.1)
    assert len(ids_in(gateway.engine)) == before
