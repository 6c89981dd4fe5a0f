"""What callers are told when a provider or a budget refuses, and whether trying again helps."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio

from federation.deployment.certificates import CertificateFolder
from tests.fakes.budgets import budget
from tests.fakes.gateway import CLAUDE, SMALL, RunningGateway, running_gateway
from tests.fakes.turns import until
from tests.fakes.upstream import (
    Answer,
    anthropic_error,
    completion,
    error_answer,
    json_answer,
    stream_answer,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("wire errors"),  # one gateway
]

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello."}]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path_factory.mktemp("wire")) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    """The gateway, whose upstreams have seen nothing."""
    running.upstreams.reset()
    return running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(running: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with running.caller() as client:
        yield client


async def ask(http: httpx2.AsyncClient, model: str = SMALL, **body: Any) -> httpx2.Response:
    return await http.post(CHAT, json={"model": model, "messages": HELLO, **body})


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


LIMITED: dict[str, tuple[str, Answer]] = {
    "OpenAI": (SMALL, error_answer(429, "slow down", headers={"retry-after": "7"})),
    "Anthropic": (CLAUDE, anthropic_error(429, "slow down", "rate_limit_error")),
    "inside an answer": (SMALL, json_answer({"error": {"code": 429, "message": "slow down"}})),
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("model", "refusal"), LIMITED.values(), ids=LIMITED.keys())
async def test_too_many_requests_stay_429(
    gateway: RunningGateway,
    http: httpx2.AsyncClient,
    model: str,
    refusal: Answer,
    *,
    is_stream: bool,
) -> None:
    gateway.alpha.answers = gateway.gamma.answers = [refusal]
    answer = await ask(http, model, stream=is_stream)
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    assert answer.headers.get("retry-after") == refusal.headers.get("retry-after")
    assert "x-should-retry" not in answer.headers


async def test_a_client_catches_them_as_what_they_are(gateway: RunningGateway) -> None:
    gateway.alpha.answers = [error_answer(429, "slow down", headers={"retry-after": "7"})]
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0
    ) as client:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model=SMALL, messages=HELLO)  # type: ignore[arg-type]


async def test_another_model_answers_for_one_that_takes_no_more(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    gateway.alpha.answers = [error_answer(429, "slow down")]
    gateway.beta.answers = [json_answer(completion())]
    answer = await ask(http, "auto")
    assert (answer.status_code, answer.headers["x-waypost-model"]) == (200, "large")


@pytest.mark.parametrize("wait_s", [30, -30])
async def test_a_date_without_the_providers_own_date_is_heeded(
    gateway: RunningGateway, http: httpx2.AsyncClient, wait_s: int
) -> None:
    gateway.alpha.answers = [
        error_answer(503, "away", headers={"retry-after": in_seconds(wait_s), "date": ""})
    ]
    gateway.alpha.answers[0].headers.pop("date")  # type: ignore[attr-defined]
    answer = await ask(http)
    waits = int(answer.headers["retry-after"])
    assert wait_s - 5 <= waits <= max(wait_s, 1)


async def test_a_provider_that_is_not_paid_is_429_and_vain_to_ask_again(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    words = "You exceeded your current quota"
    gateway.alpha.answers = [error_answer(429, words, code="insufficient_quota")]
    answer = await ask(http)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, "insufficient_quota")
    assert words not in error["message"]
    assert answer.headers["x-should-retry"] == "false"


QUOTED = {
    "a role": error_answer(
        400,
        "Invalid value: 'model not found'. Supported values are: 'user'",
        param="messages[0].role",
    ),
    "without its place": error_answer(400, "Invalid role: 'the model does not exist'"),
    "moderation": error_answer(403, "Flagged", metadata={"reasons": ["violence"]}),
    "a tool": error_answer(404, "Tool 'model not found' is unknown"),
}


@pytest.mark.parametrize("refusal", QUOTED.values(), ids=QUOTED.keys())
async def test_what_quotes_the_caller_is_the_callers_fault(
    gateway: RunningGateway, http: httpx2.AsyncClient, refusal: Answer
) -> None:
    gateway.alpha.answers = [refusal]
    answer = await ask(http)
    assert (answer.status_code, answer.json()["error"]["type"]) == (refusal.status, "error")


async def test_a_budget_that_is_spent_says_that_trying_again_is_vain(tmp_path: Any) -> None:
    polled = {"definitions_poll_s": 0.01}
    async with running_gateway(tmp_path, budgets=polled) as it, it.caller() as http:
        for window in ("day", "total"):
            budget(it.engine, 1, team_id="default", measure="tokens", window=window)
        await until(lambda: it.app.budgets.book.revision > 0)
        answer = await ask(http, max_tokens=5)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_every_attempt_is_logged(tmp_path: Any, *, is_stream: bool) -> None:
    down = error_answer(503, "away", headers={"retry-after-ms": "1"})
    whole = stream_answer() if is_stream else json_answer(completion())
    async with running_gateway(tmp_path, limits={"max_retries": 2}) as it, it.caller() as http:
        it.alpha.answers = [down]
        failed = await ask(http, stream=is_stream)
        it.alpha.answers, it.beta.answers = [down], [down, whole]
        answered = await ask(http, "auto", stream=is_stream)
        rows = [await it.turn(one.headers["x-request-id"]) for one in (failed, answered)]
    assert [row.attempts for row in rows] == [3, 5]


async def test_a_certificate_that_is_not_trusted_is_named_in_the_log(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CertificateFolder(tmp_path / "certificates")
    folder.issue_server(["127.0.0.1"], datetime.now(UTC))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder.server, folder.server_key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with (
        server,
        running_gateway(tmp_path / "gateway", also={"beta": {"base_url": url}}) as it,
        it.caller() as http,
    ):
        answer = await ask(http, "large")
    assert answer.status_code == 503
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert "CERTIFICATE" not in answer.text
