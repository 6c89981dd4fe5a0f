"""What the log says of a stream, whichever way it ended."""

import pytest

from tests.fakes.gateway import LARGE, SMALL
from tests.fakes.upstream import Answer, error_answer, stream_answer, stream_chunks

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
STREAM = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "Say hello."}]}


async def test_a_whole_stream_is_logged_with_what_the_provider_counted(gateway, http):
    gateway.alpha.answers = [stream_answer("Hello!")]

    response = await http.post(CHAT, json=STREAM)

    row = await gateway.turn(response.headers["x-request-id"])
    assert row.error is None
    assert row.finish_reason == "stop"
    assert (row.prompt_tokens, row.completion_tokens, row.is_estimated) == (9, 3, False)
    assert row.cost_nusd == 15_000
    assert row.answer_id == "chatcmpl-1"
    assert row.is_stream is True
    assert 0 < row.first_byte_s <= row.latency_s


async def test_a_stream_that_was_cut_off_is_logged_with_an_estimate(gateway, http):
    gateway.alpha.answers = [Answer(tuple(stream_chunks("Hello!")[:4]), cuts_off=True)]

    response = await http.post(CHAT, json=STREAM)

    row = await gateway.turn(response.headers["x-request-id"])
    assert row.error == "ProviderCutOff"
    assert row.is_estimated is True
    assert 0 < row.completion_tokens < 10


async def test_a_stream_of_the_next_model_is_logged_as_served_by_it(gateway, http):
    gateway.alpha.answers = [error_answer(500, "oh no")]
    gateway.beta.answers = [stream_answer("Hello!")]

    response = await http.post(CHAT, json=STREAM)

    row = await gateway.turn(response.headers["x-request-id"])
    assert (row.chosen_model, row.served_model, row.attempts) == (SMALL, LARGE, 2)
    assert row.error is None
