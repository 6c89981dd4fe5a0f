"""What Anthropic's SDKs ask beside messages: models and counts of tokens."""

from typing import Any

import pytest

from tests.fakes.gateway import CLAUDE, SMALL
from tests.fakes.messages import HELLO, VERSION

pytestmark = pytest.mark.asyncio(loop_scope="session")

MESSAGES = "/v1/messages"


async def test_counts_the_tokens_of_a_prompt_without_calling_a_model(gateway, http):
    asked: dict[str, Any] = {"model": "auto", "messages": HELLO["messages"]}

    short = await http.post(f"{MESSAGES}/count_tokens", json=asked, headers=VERSION)
    asked["system"] = "word " * 1000
    long = await http.post(f"{MESSAGES}/count_tokens", json=asked, headers=VERSION)

    assert short.headers["x-waypost-token-count"] == "estimated"
    assert 3 <= short.json()["input_tokens"] <= 30
    assert 900 <= long.json()["input_tokens"] <= 1500
    assert gateway.alpha.requests == []


async def test_lists_models_in_anthropics_form_page_by_page(gateway, http):
    ids: list[str] = []
    page: dict[str, Any] = {"has_more": True, "last_id": None}
    while page["has_more"]:
        query = {"limit": 2} | ({"after_id": page["last_id"]} if ids else {})
        page = (await http.get("/v1/models", params=query, headers=VERSION)).json()
        assert {model["type"] for model in page["data"]} == {"model"}
        ids += [model["id"] for model in page["data"]]

    openais = (await http.get("/v1/models")).json()
    assert ids == [model["id"] for model in openais["data"]]
    assert {"auto", SMALL, CLAUDE} <= set(ids)


async def test_lists_the_models_before_another(http):
    page = (await http.get("/v1/models", params={"limit": 2}, headers=VERSION)).json()
    query = {"limit": 1, "before_id": page["last_id"]}

    before = (await http.get("/v1/models", params=query, headers=VERSION)).json()

    assert [model["id"] for model in before["data"]] == [page["first_id"]]
    assert before["has_more"] is False


async def test_shows_one_model_and_misses_another_in_anthropics_form(http):
    shown = await http.get(f"/v1/models/{CLAUDE}", headers=VERSION)
    missed = await http.get("/v1/models/nobody", headers=VERSION)
    refused = await http.get("/v1/models", params={"limit": 0}, headers=VERSION)

    assert shown.json()["display_name"] == CLAUDE
    assert missed.json()["error"]["type"] == "not_found_error"
    assert refused.json()["error"]["type"] == "invalid_request_error"
