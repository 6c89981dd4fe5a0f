"""What the log says of each request, where lines are JSON, and of models that fail."""

import io
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest

from gateway.access.keys import KeyStore
from gateway.budgets.definitions import BudgetDefinitions
from gateway.settings.config import ServerSettings
from gateway.telemetry.log_lines import formatter_of
from tests.fakes.gateway import SMALL, RunningGateway, running_gateway
from tests.fakes.turns import until
from tests.fakes.upstream import completion, error_answer, json_answer, stream_answer

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": SMALL, "messages": [{"role": "user", "content": "What?"}]}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


class Lines:
    """What the process has logged."""

    def __init__(self) -> None:
        self.written = io.StringIO()

    def of(self, logger: str) -> list[dict[str, Any]]:
        """Return the lines of one logger."""
        lines = (orjson.loads(line) for line in self.written.getvalue().splitlines())
        return [line for line in lines if line["logger"] == logger]

    async def requests(self, count: int) -> list[dict[str, Any]]:
        """Return the lines of requests, once there are `count`; a line follows the answer."""
        await until(lambda: len(self.of("gateway.access")) >= count)
        return self.of("gateway.access")


@pytest.fixture
def log() -> Iterator[Lines]:
    lines = Lines()
    handler = logging.StreamHandler(lines.written)
    handler.setFormatter(formatter_of(ServerSettings(log_format="json")))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lines
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture
async def gateway(tmp_path, log) -> AsyncIterator[RunningGateway]:
    server = {"port": 0, "admin_port": 0, "log_format": "json"}
    limits = {"max_retries": 0, "breaker_failures": 2, "breaker_cooldown_s": 0.01}
    async with running_gateway(tmp_path, server=server, limits=limits) as running:
        yield running


async def test_a_line_says_whose_the_turn_was_and_what_it_cost(gateway, log):
    gateway.alpha.answers = [json_answer(completion())]
    async with gateway.caller() as http:
        answer = await http.post(CHAT, json=BODY, headers={"traceparent": PARENT})

    (line,) = await log.requests(1)
    turn = await gateway.turn(answer.headers["x-request-id"])
    assert (line["team"], line["key_id"]) == (turn.team_id, turn.key_id)
    assert (line["request_id"], line["trace_id"]) == (turn.request_id, TRACE_ID)
    assert (line["model"], line["provider"], line["reason"]) == (SMALL, "alpha", "named")
    assert line["prompt_tokens"] == turn.prompt_tokens > 0
    assert line["completion_tokens"] == turn.completion_tokens > 0
    assert line["cost_usd"] == turn.cost_nusd / 1e9 > 0
    assert {"error", "limit", "first_byte_s"} & line.keys() == set()


async def test_the_line_of_a_stream_says_when_its_first_byte_came(gateway, log):
    gateway.alpha.answers = [stream_answer()]
    async with gateway.caller() as http:
        await http.post(CHAT, json=BODY | {"stream": True})

    (line,) = await log.requests(1)
    assert 0 < line["first_byte_s"] <= line["duration_s"]
    assert line["cost_usd"] > 0


async def test_the_line_of_a_refusal_names_the_limit(gateway, log):
    budgets = BudgetDefinitions(gateway.engine)
    budgets.create(
        team_id="default", scope="team", scope_id=None, measure="requests", window="day", cap=0
    )
    await until_refused(gateway)

    await until(lambda: log.of("gateway.access")[-1]["status"] == 429)
    line = log.of("gateway.access")[-1]
    assert (line["status"], line["error"]) == (429, "RateLimited")
    assert line["limit"] == "team requests day 0"
    assert line["team"] == "default"


async def until_refused(gateway: RunningGateway) -> None:
    """Ask until the new budget holds, some seconds after it was made."""
    gateway.alpha.answers = [json_answer(completion())]
    async with gateway.caller() as http:
        while (await http.post(CHAT, json=BODY)).status_code != 429:
            pass


async def test_the_line_of_a_failure_names_the_error(gateway, log):
    gateway.alpha.answers = [error_answer(500, "broken")]
    async with gateway.caller() as http:
        await http.post(CHAT, json=BODY)
        await http.post(CHAT, json=BODY | {"model": "none"})
        await http.post(CHAT, content=b"{")
    async with gateway.caller("wp-stranger") as http:
        await http.post(CHAT, json=BODY)
        await http.get("/v1/models")

    lines = await log.requests(5)
    assert [(line["error"], line.get("team")) for line in lines] == [
        ("ProviderUnavailable", "default"),
        ("ModelNotFound", "default"),
        ("InvalidRequest", "default"),
        ("Unauthenticated", None),
        ("Unauthenticated", None),
    ]


async def test_a_line_of_another_endpoint_says_whose_it_was(gateway, log):
    key = KeyStore(gateway.engine).create_key("default", "k")
    async with gateway.caller(key.secret.get_secret_value()) as http:
        await http.get("/v1/models")

    (line,) = await log.requests(1)
    assert (line["endpoint"], line["team"], line["key_id"]) == ("models", "default", key.info.id)


async def test_the_failure_of_a_model_that_was_named_is_logged(gateway, log):
    gateway.alpha.answers = [error_answer(500, "broken")]
    async with gateway.caller() as http:
        answer = await http.post(CHAT, json=BODY)

    (line,) = log.of("gateway.chat.turn")
    assert line["message"].startswith(f"{answer.headers['x-request-id']}: {SMALL} failed, and no")
    assert line["request_id"] == answer.headers["x-request-id"]


async def test_a_circuit_breaker_says_when_it_opens_and_closes(gateway, log):
    gateway.alpha.answers = [error_answer(500, "broken")] * 2 + [json_answer(completion())]
    async with gateway.caller() as http:
        await http.post(CHAT, json=BODY)
        await http.post(CHAT, json=BODY)
        while (await http.post(CHAT, json=BODY)).status_code != 200:
            pass

    messages = [line["message"] for line in log.of("gateway.providers.resilience")]
    assert messages == [
        "alpha/alpha-small failed 2 times in a row: no calls for 0.01 s",
        "alpha/alpha-small answers again: its circuit breaker is closed",
    ]
