"""Providers that quote the gateway's key, in documents within strings: nobody gets to read it."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.providers.redaction import MAX_LEVELS
from tests.fakes.collector import Collector
from tests.fakes.endpoints import EMBEDDER, gateway_of_endpoints
from tests.fakes.gateway import ALPHA_KEY, CLAUDE, GAMMA_KEY, SMALL, RunningGateway
from tests.fakes.server import serve
from tests.fakes.upstream import (
    Answer,
    anthropic_error,
    anthropic_event,
    chunk,
    completion,
    event,
    json_answer,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
ASKED = [{"role": "user", "content": "Say hello."}]
LEVELS = [0, 1, 2, 5, MAX_LEVELS + 5]


def quoted(key: str, levels: int) -> str:
    """Write a key into a document with escapes, and that into another one, and so on."""
    text = json.dumps({"error": f"no such key: {key}"}).replace("-", "\\u002d")
    for level in range(levels):
        text = text.replace("\\", "\\u005c") if level > 3 else json.dumps({"raw": text})
    return text


def read_again_and_again(text: str) -> set[str]:
    """Read the escapes of what a caller got, as often as there are any."""
    readings = {text}
    while (text := re.sub(r"\\(u00([0-9a-f]{2})|.)", _sign, text)) not in readings:
        readings.add(text)
    return readings


def _sign(found: re.Match[str]) -> str:
    return chr(int(found[2], 16)) if found[2] else found[1]


def assert_hides(key: str, told: str) -> None:
    assert not any(key in reading for reading in read_again_and_again(told))


@pytest.mark.parametrize("levels", LEVELS)
async def test_the_attack_shows_the_key_where_nothing_is_cut_out(levels: int) -> None:
    with pytest.raises(AssertionError):
        assert_hides(ALPHA_KEY, json.dumps({"message": quoted(ALPHA_KEY, levels)}))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    collector = Collector()
    async with serve(collector, lifespan="off") as url:
        yield collector, url


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(
    tmp_path_factory: pytest.TempPathFactory, collector: tuple[Collector, str]
) -> AsyncIterator[RunningGateway]:
    tracing = {"endpoint": f"{collector[1]}/v1/traces", "content": True}
    folder = tmp_path_factory.mktemp("keys")
    async with gateway_of_endpoints(folder, tracing=tracing) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    running.upstreams.reset()
    return running


def error_of(levels: int, **fields: Any) -> dict[str, Any]:
    text = quoted(ALPHA_KEY, levels)
    metadata = {"raw": text, text: [text], "provider_name": "x"}
    return {"message": text, "code": 400, "metadata": metadata, **fields}


def forms(levels: int) -> dict[str, Answer]:
    error = event({"error": error_of(levels)})
    message = {"role": "assistant", "content": "Hel"}
    told = {
        "index": 0,
        "delta": {},
        "message": message,
        "finish_reason": "stop",
        "error": error_of(levels),
    }
    return {
        "refusal": json_answer({"error": error_of(levels)}, 400),
        "whole": json_answer({"error": error_of(levels)}),
        "first event": Answer((error,)),
        "later event": Answer((chunk({"content": "Hel"}), error)),
        "choice": json_answer(completion(choices=[told])),
        "event of a choice": Answer((chunk({"content": "Hel"}), chunk({}, choices=[told]))),
    }


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("form", forms(0))
@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/responses", "/v1/embeddings"])
async def test_no_caller_reads_a_key_that_is_quoted_in_documents_within_strings(
    gateway, caplog, path, form, levels
) -> None:
    caplog.set_level(logging.DEBUG)
    gateway.alpha.answers = [forms(levels)[form]]
    body = {"model": SMALL, "messages": ASKED, "stream": "event" in form, "max_tokens": 9}
    if path in ("/v1/embeddings", "/v1/responses"):
        body = {"model": SMALL, "input": "Say hello.", "stream": "event" in form}
    if path == "/v1/embeddings":
        body |= {"model": EMBEDDER, "stream": False}
    async with gateway.caller() as http:
        answer = await http.post(path, json=body)

    assert gateway.alpha.requests
    assert_hides(ALPHA_KEY, answer.text)
    assert_hides(ALPHA_KEY, "\n".join(record.getMessage() for record in caplog.records))


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_nor_one_that_is_quoted_in_anthropics_form(gateway, path, is_stream) -> None:
    text = quoted(GAMMA_KEY, 2)
    kind = "invalid_request_error"
    refusal = anthropic_error(400, text, kind)
    in_stream = Answer((anthropic_event("error", error={"type": kind, "message": text}),))
    gateway.upstreams.by_name["gamma"].answers = [in_stream if is_stream else refusal]
    body = {"model": CLAUDE, "messages": ASKED, "stream": is_stream, "max_tokens": 9}
    async with gateway.caller() as http:
        answer = await http.post(path, json=body)

    assert gateway.upstreams.by_name["gamma"].requests
    assert_hides(GAMMA_KEY, answer.text)


async def test_no_trace_holds_such_a_key(gateway, collector) -> None:
    tracing = gateway.app.public.turns[CHAT].service.tracing
    for form in forms(2).values():
        gateway.alpha.answers = [form]
        async with gateway.caller() as http:
            await http.post(CHAT, json={"model": SMALL, "messages": ASKED, "stream": True})
    await asyncio.to_thread(tracing.provider.force_flush)  # the collector is served by this loop

    assert collector[0].spans
    assert_hides(ALPHA_KEY, collector[0].raw.decode("latin-1"))
