"""Asks a gateway as its callers do, by HTTP, several questions at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import click
import httpx2

from gateway.demo.questions import Question
from gateway.demo.serving import Address

AT_ONCE: Final = 4
"""As many answers as llama.cpp computes at a time."""
MAX_TOKENS: Final = 36
"""Of an answer: no right one is longer."""
TIMEOUT_S: Final = 300.0
READY_TIMEOUT_S: Final = 120.0
UNAVAILABLE: Final = 503

Asked = TypeVar("Asked")
Got = TypeVar("Got")


class Answer(NamedTuple):
    """What a model answered, and what that cost."""

    answer_id: str
    model: str
    text: str
    cost_usd: float


class Choice(NamedTuple):
    """Whom the router that serves finds best."""

    model: str
    router_version: str | None


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller of the gateway, with the key that its first start made."""

    http: httpx2.AsyncClient

    async def ask(self, question: Question, model: str = "auto") -> Answer:
        """Ask one question."""
        body = {**_body(question, model), "max_tokens": MAX_TOKENS}
        found = await self._post("chat/completions", body)
        turn, message = found["waypost"], found["choices"][0]["message"]
        return Answer(found["id"], turn["model"], message["content"] or "", turn["cost_usd"])

    async def choice(self, question: Question) -> Choice:
        """Return whom the router finds best, which exploration does not change."""
        plan = await self._post("route", _body(question, "auto"))
        best = max(plan["candidates"], key=lambda one: float(one["propensity"]))
        return Choice(best["model"], plan["router_version"])

    async def grade(self, answer: Answer, question: Question) -> float:
        """Have the gateway check an answer, and keep the grade in its log."""
        body = {"id": answer.answer_id, "verifier": question.verifier}
        return float((await self._post("feedback", body))["score"])

    async def _post(self, path: str, body: object) -> Any:
        response = await self.http.post(path, json=body)
        if response.is_error:
            raise click.ClickException(f"the gateway answered {path} with {response.text}")
        return response.json()


def for_each(
    address: Address,
    asked: Sequence[Asked],
    do: Callable[[Caller, Asked], Awaitable[Got]],
    tick: Callable[[], object] = lambda: None,
) -> list[Got]:
    """Do something for each of `asked`, several at a time; call `tick` after each."""
    return asyncio.run(_for_each(address, asked, do, tick))


async def _for_each(
    address: Address,
    asked: Sequence[Asked],
    do: Callable[[Caller, Asked], Awaitable[Got]],
    tick: Callable[[], object],
) -> list[Got]:
    places = asyncio.Semaphore(AT_ONCE)
    async with _http(address) as http:
        caller = Caller(http)

        async def one(item: Asked) -> Got:
            async with places:
                done = await do(caller, item)
                tick()
                return done

        return await _together(one(item) for item in asked)


async def _together(work: Iterable[Awaitable[Got]]) -> list[Got]:
    return list(await asyncio.gather(*work))


def wait_until_ready(address: Address) -> None:
    """Wait until the embedded model has been loaded."""

    async def wait() -> None:
        async with _http(address) as http, asyncio.timeout(READY_TIMEOUT_S):
            url = address.url.removesuffix("/v1") + "/ready"
            # Another process loads it, so there is no event to wait for.
            while (await http.get(url)).status_code == UNAVAILABLE:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    try:
        asyncio.run(wait())
    except TimeoutError as error:
        raise click.ClickException("the embedded model did not start") from error


def _http(address: Address) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=address.url + "/",
        headers={"authorization": f"Bearer {address.key}"},
        timeout=httpx2.Timeout(TIMEOUT_S, connect=5.0),
        trust_env=False,
    )


def _body(question: Question, model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question.text}]}
