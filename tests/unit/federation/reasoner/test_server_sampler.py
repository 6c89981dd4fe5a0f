import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from federation.reasoner.server_sampler import SamplerUnavailable, ServerSampler
from federation.reasoner.settings import ReasonerSettings
from tests.fakes.digits import END, digit_prompt, library_tokenizer
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve

SETTINGS = ReasonerSettings(temperature=0.7, max_new_tokens=5)
PROMPTS = [digit_prompt("1 2"), digit_prompt("3 4")]


@dataclass
class ChatServer:
    """Answers every request with one choice, or with a body that is none."""

    choice: dict[str, Any]
    status: int = 200
    requests: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.requests.append({"path": scope["path"], **json.loads(body)})
        answer = json.dumps({"choices": [self.choice]} if self.choice else {"error": "busy"})
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.encode()})


def choice(text: str | None, ending: str = "stop", **more: Any) -> dict[str, Any]:
    return {"message": {"content": text}, "finish_reason": ending, **more}


async def sample(server: ChatServer, k: int = 1, announce=lambda: "adapter-7"):
    async with serve(server, lifespan="off") as url:
        with httpx2.Client(base_url=f"{url}/v1/", timeout=PATIENCE_S) as http:
            sampler = ServerSampler(http, announce, library_tokenizer(), SETTINGS)
            return await asyncio.to_thread(sampler.sample, PROMPTS, k, 3)


async def test_each_prompt_is_asked_so_many_times_with_seeds_of_their_own():
    server = ChatServer(choice("42"))
    drawn = await sample(server, k=3)
    assert [len(one) for one in drawn] == [3, 3]
    assert len({one["seed"] for one in server.requests}) == 6
    asked = sorted(one["messages"][0]["content"] for one in server.requests)
    assert asked == ["1 2"] * 3 + ["3 4"] * 3
    first = server.requests[0]
    assert (first["path"], first["model"]) == ("/v1/chat/completions", "adapter-7")
    assert (first["temperature"], first["max_tokens"]) == (0.7, 5)


async def test_the_adapters_are_on_the_server_before_anything_is_asked():
    server, asked_before = ChatServer(choice("42")), []

    def announce() -> str:
        asked_before.append(len(server.requests))
        return "adapter-8"

    await sample(server, announce=announce)
    assert asked_before == [0]
    assert {one["model"] for one in server.requests} == {"adapter-8"}


@pytest.mark.parametrize(
    ("told", "tokens", "is_complete"),
    [
        (choice("42"), (4, 2, END), True),
        (choice("42", "length"), (4, 2), False),
        (choice("42", token_ids=[4, 2, END]), (4, 2, END), True),
        (choice("42", token_ids=[4, 2]), (4, 2, END), True),
        (choice("42", "length", token_ids=[4, 4, 2]), (4, 4, 2), False),
        (choice(None), (END,), True),
        (choice("", "length"), (END,), True),
    ],
    ids=["text", "cut off", "tokens", "tokens without end", "tokens cut off", "nothing", "no room"],
)
async def test_an_answer_has_its_tokens(told, tokens, is_complete):
    ((answer,), _) = await sample(ChatServer(told))
    assert (answer.tokens, answer.is_complete) == (tokens, is_complete)
    assert answer.log_probabilities == ()


@pytest.mark.parametrize(
    ("server", "complaint"),
    [
        (ChatServer({}, status=503), "refused: 503.*busy"),
        (ChatServer({}), "no chat completion"),
        (ChatServer({"message": None}), "no chat completion"),
    ],
)
async def test_a_server_that_does_not_answer_is_named(server, complaint):
    with pytest.raises(SamplerUnavailable, match=rf"/v1/chat/completions .*{complaint}"):
        await sample(server)


def test_a_server_that_is_not_there_is_named():
    with httpx2.Client(base_url="http://127.0.0.1:9/v1/") as http:
        sampler = ServerSampler(http, lambda: "base", library_tokenizer(), SETTINGS)
        with pytest.raises(SamplerUnavailable, match=r"127\.0\.0\.1:9.*does not answer"):
            sampler.sample(PROMPTS, 1, 0)
