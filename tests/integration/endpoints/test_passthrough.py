"""OpenAI's own SDK and plain HTTP use what an operator passes through."""

import gzip

import pytest

from gateway.settings.config import ConfigurationError
from tests.fakes.endpoints import (
    PASSED,
    gateway_of_endpoints,
)
from tests.fakes.scrape import scrape
from tests.fakes.upstream import JSON, Answer, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_moderations_pass_to_the_provider_and_are_counted(gateway, sdk) -> None:
    verdict = {"flagged": False, "categories": {}, "category_scores": {}}
    said = {"id": "modr-1", "model": "omni-moderation-latest", "results": [verdict]}
    gateway.alpha.answers = [json_answer(said)]

    answer = await sdk.moderations.create(model="omni-moderation-latest", input="hello")

    assert answer.results[0].flagged is False
    assert gateway.alpha.last.path == "/alpha/v1/moderations"
    seen = await scrape(gateway)
    assert seen.sum("waypost_requests_total", endpoint="passthrough", status="200") > 0


async def test_images_are_made_and_paid_for_by_number(gateway, sdk) -> None:
    data = [{"b64_json": "aGk="}, {"b64_json": "aG8="}]
    gateway.alpha.answers = [json_answer({"created": 1, "data": data})]

    answer = await sdk.images.with_raw_response.generate(prompt="a cat", n=2, size="1024x1024")

    assert [image.b64_json for image in answer.parse().data] == ["aGk=", "aG8="]
    assert answer.headers["x-waypost-cost-usd"] == "0.080000000"


async def test_a_form_with_a_file_passes_as_it_is(gateway, sdk) -> None:
    gateway.alpha.answers = [json_answer({"text": "hello", "usage": {"seconds": 3}})]
    recording = bytes(range(256)) * 2000

    answer = await sdk.audio.transcriptions.with_raw_response.create(
        model="whisper-1", file=("a.wav", recording)
    )

    assert answer.parse().text == "hello"
    assert recording in gateway.alpha.last.raw
    assert gateway.alpha.last.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert answer.headers["x-waypost-cost-usd"] == "0.000300000"


async def test_speech_streams_back_with_its_type(gateway, sdk) -> None:
    sound = [bytes([n]) * 1000 for n in range(5)]
    gateway.alpha.answers = [Answer(tuple(sound), headers={"content-type": "audio/mpeg"})]

    answer = await sdk.audio.speech.with_raw_response.create(
        model="tts-1", voice="alloy", input="Hello"
    )

    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.content == b"".join(sound)
    assert gateway.alpha.last.headers["accept"] == "*/*"


async def test_a_file_is_read_by_its_name(gateway, sdk) -> None:
    about = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "a"}
    gateway.beta.answers = [json_answer({**about, "purpose": "batch", "status": "processed"})]
    answer = await sdk.files.retrieve("file-1")
    assert answer.id == "file-1"
    assert (gateway.beta.last.method, gateway.beta.last.path) == ("GET", "/beta/v1/files/file-1")


async def test_an_answer_in_an_encoding_that_was_not_asked_for_is_the_providers_fault(
    gateway, http
) -> None:
    headers = {"content-type": "audio/mpeg", "content-encoding": "br"}
    gateway.alpha.answers = [Answer((b"x",), headers=headers)]
    answer = await http.post("/v1/audio/speech", json={"input": "Hi"})
    assert answer.json()["error"]["code"] == "provider_unavailable"


async def test_a_compressed_answer_is_inflated(gateway, http) -> None:
    sound = bytes(range(256)) * 100
    headers = {"content-type": "audio/mpeg", "content-encoding": "gzip"}
    gateway.alpha.answers = [Answer((gzip.compress(sound),), headers=headers)]
    answer = await http.post("/v1/audio/speech", json={"input": "Hi"})
    assert answer.content == sound


async def test_json_that_is_passed_through_need_not_be_an_object(gateway, http) -> None:
    raws = [b'["error"]', b'{"id": "x", "error": {"code": 5}}', b'{"error": half']
    gateway.alpha.answers = [Answer((raw,), headers=JSON) for raw in raws]
    body = {"prompt": "x"}
    seen = [(await http.post("/v1/images/generations", json=body)).content for _ in raws]
    assert seen == raws


async def test_a_get_takes_no_body(gateway, http) -> None:
    answer = await http.request("GET", "/v1/files/file-1", content=b"{}")
    assert (answer.status_code, gateway.beta.requests) == (400, [])


async def test_what_the_gateway_serves_itself_cannot_be_passed_through(tmp_path) -> None:
    table = {**PASSED["moderations"], "path": "/v1/embeddings", "teams": ["default"]}
    with pytest.raises(ConfigurationError, match="serves /v1/embeddings itself"):
        async with gateway_of_endpoints(tmp_path, passthrough={"mine": table}):
            pass
