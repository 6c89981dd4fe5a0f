"""What callers of Anthropic's Messages are told instead of an answer."""

from typing import Any

import orjson
import pytest

from tests.fakes.gateway import CLAUDE, PRICE, SMALL, running_gateway
from tests.fakes.messages import HELLO, VERSION
from tests.fakes.upstream import anthropic_error, anthropic_message, error_answer, json_answer
from tests.integration.test_attacks_on_money import CAP_TOKENS, capped_gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

MESSAGES = "/v1/messages"


@pytest.mark.parametrize(
    ("changes", "status", "kind", "words"),
    [
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens: Field required"),
        ({"messages": []}, 400, "invalid_request_error", "at least one message"),
        (
            {"messages": [{"role": "user", "content": 5}]},
            400,
            "invalid_request_error",
            "messages.0",
        ),
        ({"model": "nobody"}, 404, "not_found_error", "nobody"),
        ({"speed": "fast"}, 400, "invalid_request_error", "speed"),
        ({"mcp_servers": [{"url": "x"}]}, 400, "invalid_request_error", "mcp_servers"),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            *(400, "invalid_request_error", "tools.web_search_20250305"),
        ),
        (
            {"context_management": {"edits": [{"type": "compact_20260112"}]}},
            *(400, "invalid_request_error", "context_management"),
        ),
    ],
)
@pytest.mark.parametrize("model", ["auto", CLAUDE])
async def test_what_cannot_be_served_is_refused_in_anthropics_form(
    gateway, http, model, changes, status, kind, words
):
    response = await http.post(MESSAGES, json=HELLO | {"model": model} | changes, headers=VERSION)

    body = response.json()
    assert response.status_code == status
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert words in body["error"]["message"]
    assert "request_id" in body
    assert gateway.alpha.requests == gateway.gamma.requests == []


async def test_what_anthropic_refuses_is_told_in_its_own_words(gateway, http):
    gateway.gamma.answers = [
        anthropic_error(400, "prompt is too long: 210000 tokens", "invalid_request_error")
    ]

    response = await http.post(MESSAGES, json=HELLO | {"model": CLAUDE}, headers=VERSION)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["message"] == "prompt is too long: 210000 tokens"


async def test_a_prompt_that_another_host_calls_too_long_is_told_so_that_clients_shorten_it(
    gateway, http
):
    said = "This model's maximum context length is 8192 tokens."
    gateway.alpha.answers = [error_answer(400, said, code="context_length_exceeded")]

    response = await http.post(MESSAGES, json=HELLO | {"model": SMALL}, headers=VERSION)

    assert response.json()["error"]["message"] == f"prompt is too long: {said}"


@pytest.mark.parametrize("path", [MESSAGES, f"{MESSAGES}/count_tokens"])
async def test_a_stranger_is_told_so_in_anthropics_form(gateway, http, path):
    headers = VERSION | {"authorization": "Bearer wp-000000000000-AAAA"}

    response = await http.post(path, json=HELLO, headers=headers)

    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"


async def test_an_output_limit_that_is_no_number_is_refused(gateway, http):
    raw = orjson.dumps(HELLO | {"max_tokens": "many"})

    response = await http.post(MESSAGES, content=raw, headers=VERSION)

    assert response.status_code == 400
    assert gateway.alpha.requests == []


async def test_a_budget_without_room_is_a_matter_of_billing(tmp_path):
    async with capped_gateway(tmp_path) as gateway, gateway.caller() as http:
        asked = HELLO | {"max_tokens": 2 * CAP_TOKENS}
        response = await http.post(MESSAGES, json=asked, headers=VERSION)

    assert response.status_code == 402
    assert response.json()["error"]["type"] == "billing_error"
    assert response.json()["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize(
    "hidden",
    [
        {"type": "redacted_thinking", "data": "x" * CAP_TOKENS},
        {"type": "text", "text": "", "citations": [{"cited_text": "x" * CAP_TOKENS}]},
        {"type": "unheard_of", "anything": "x" * CAP_TOKENS},
    ],
)
async def test_what_only_anthropic_is_sent_needs_room_in_a_budget_too(tmp_path, hidden):
    turn = {"role": "assistant", "content": [hidden]}
    asked = HELLO | {"model": CLAUDE, "messages": [*HELLO["messages"], turn, *HELLO["messages"]]}
    async with capped_gateway(tmp_path) as gateway, gateway.caller() as http:
        response = await http.post(MESSAGES, json=asked, headers=VERSION)

        assert response.status_code == 402
        assert gateway.gamma.requests == []


@pytest.mark.parametrize(("context_tokens", "sent"), [(200_000, "effort-1"), (1_000_000, None)])
async def test_no_beta_lengthens_a_context_beyond_what_is_charged(tmp_path, context_tokens, sent):
    """Prompts are charged up to the context that the settings give a model."""
    model: dict[str, Any] = {"provider": "gamma", "upstream_name": "claude-sonnet-4-5"}
    model |= {"price": PRICE, "capabilities": {"context_tokens": context_tokens}}
    betas = "context-1m-2025-08-07, effort-1"
    changes: dict[str, Any] = {"models": {CLAUDE: model}, "profiles": {}}
    async with running_gateway(tmp_path, **changes) as gateway, gateway.caller() as http:
        gateway.gamma.answers = [json_answer(anthropic_message())]
        headers = VERSION | {"anthropic-beta": betas}
        response = await http.post(MESSAGES, json=HELLO | {"model": CLAUDE}, headers=headers)

        assert response.status_code == 200, response.text
        assert gateway.gamma.last.headers["anthropic-beta"] == (sent or betas)
