"""Puts prompts to models through a running gateway, and spends no more than it may."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, NamedTuple

import httpx2

from gateway.problems.calibration import (
    AnswerFailed,
    CalibrationError,
    CapReached,
    GivenAnswer,
    ModelUnusable,
)

FALLBACK_HEADER: Final = "x-waypost-fallback-from"
COST_HEADER: Final = "x-waypost-cost-usd"
REQUEST_HEADER: Final = "x-request-id"
ATTEMPTS: Final = 3
MAX_WAIT_S: Final = 30.0
# Trying again helps with these: too fast, or not there for the moment.
PASSING_STATUSES: Final = frozenset({429, 502, 503, 504})
TIMEOUT_STATUS: Final = 504
REFUSED_KEY: Final = 401
# These would meet every further prompt of the model as well.
REFUSED_MODEL: Final = frozenset({403, 404})

MAX_ANSWER_TOKENS: Final = 1024
"""Of an answer; so that a call has a worst case."""

ADDED_TOKENS: Final = 256
"""What gateway and model may add to a prompt, until the first answer tells: a system prompt."""


class Price(NamedTuple):
    """USD per million tokens."""

    prompt_usd: float
    completion_usd: float


@dataclass(slots=True, eq=False)
class Spending:
    """What was spent, and the worst case of the calls under way; together never above the cap.

    Attributes:
        spent_usd: What answers cost; earlier runs' too, where the cap is of all runs.
    """

    cap_usd: float = inf
    spent_usd: float = 0.0
    _held_usd: float = field(default=0.0, init=False)
    _freed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def hold(self, worst_usd: float) -> None:
        """Set the worst case of a call aside; wait where calls under way may free enough.

        Raises:
            CapReached: They cannot.
        """
        while self.spent_usd + self._held_usd + worst_usd > self.cap_usd:
            if self.spent_usd + worst_usd > self.cap_usd or self._held_usd <= 0.0:
                raise CapReached(f"an answer may cost {worst_usd:.6f} USD")
            self._freed.clear()
            await self._freed.wait()
        self._held_usd += worst_usd

    def settle(self, worst_usd: float, cost_usd: float) -> None:
        """Count what the call cost, in place of its worst case."""
        self._held_usd = max(self._held_usd - worst_usd, 0.0)
        self.spent_usd += cost_usd
        self._freed.set()


@dataclass(slots=True, eq=False)
class GatewayAsker:
    """Asks through a running gateway: the path callers use, with its tokens and its cost.

    Attributes:
        http: Has the gateway's ``/v1`` as base URL and sends the key.
        clock: Seconds, for latencies.
        prices: Of each model that may be asked.
        sleep: Waits between attempts.
        untold: Grades that the gateway did not take.
    """

    http: httpx2.AsyncClient
    clock: Callable[[], float]
    prices: Mapping[str, Price]
    spending: Spending
    sleep: Callable[[float], Any] = asyncio.sleep
    untold: int = field(default=0, init=False)
    _added: dict[str, int] = field(default_factory=dict, init=False)

    def worst_usd(self, model: str, text: str) -> float:
        """Return what an answer may cost: a token of the prompt has at least one byte."""
        if self.spending.cap_usd == inf:
            return 0.0
        if model not in self.prices:
            raise ModelUnusable("its price is not known, so nobody can say what an answer costs")
        price = self.prices[model]
        prompt = len(text.encode()) + self._added.get(model, ADDED_TOKENS)
        usd = prompt * price.prompt_usd + MAX_ANSWER_TOKENS * price.completion_usd
        return usd / 1e6

    async def ask(self, model: str, text: str) -> GivenAnswer:
        """Return the answer after up to three attempts."""
        problem = ""
        for attempt in range(ATTEMPTS):
            worst_usd = self.worst_usd(model, text)
            await self.spending.hold(worst_usd)
            cost_usd, started_at = worst_usd, self.clock()
            try:
                response = await self._post(model, text)
                cost_usd = _cost_usd(response, worst_usd)
            except httpx2.TransportError as error:
                # What was never sent costs nothing; what was cut off may have been answered.
                is_unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                cost_usd = 0.0 if is_unsent else worst_usd
                problem = f"{type(error).__name__}: {error}"
                wait_s = 2.0**attempt
            else:
                if response.is_success:
                    given = _given(response, self.clock() - started_at)
                    return self._checked(model, text, given, worst_usd)
                problem = f"{response.status_code}: {_message(response)}"
                wait_s = _wait_s(response, attempt)
                if _is_final(model, response.status_code, problem):
                    break
            finally:
                self.spending.settle(worst_usd, cost_usd)
            await self.sleep(wait_s)
        raise AnswerFailed(problem)

    async def report(self, given: GivenAnswer, score: float) -> None:
        """Grade an answer in the gateway's log, from which routing learns."""
        if given.answer_id is None:
            return
        body = {"id": given.answer_id, "score": score, "grader": "calibrate"}
        try:
            response = await self.http.post("feedback", json=body)
            self.untold += not response.is_success
        except httpx2.TransportError:
            self.untold += 1

    async def _post(self, model: str, text: str) -> httpx2.Response:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": MAX_ANSWER_TOKENS,
        }
        return await self.http.post("chat/completions", json=body)

    def _checked(self, model: str, text: str, given: GivenAnswer, worst_usd: float) -> GivenAnswer:
        """Learn what is added to prompts; a model that costs more than its worst case is left."""
        added = given.prompt_tokens - len(text.encode())
        self._added[model] = max(self._added.get(model, 0), added, 0)
        if given.cost_usd > worst_usd and self.spending.cap_usd < inf:
            raise ModelUnusable(
                f"an answer cost {given.cost_usd:.6f} USD, and {worst_usd:.6f} USD was the worst "
                "case: its provider keeps to no limit, or its price is wrong"
            )
        return given


async def read_prices(http: httpx2.AsyncClient) -> dict[str, Price | None]:
    """Ask a gateway for the models that it serves to this key; None is a price it does not say.

    Raises:
        CalibrationError: It does not answer, or is no gateway.
    """
    try:
        response = await http.get("models")
        listed = response.raise_for_status().json()["data"]
        hosted = [one for one in listed if not one["waypost"]["routed"]]
        return {one["id"]: _price(one["waypost"]) for one in hosted}
    except httpx2.HTTPStatusError as error:
        problem = f"{error.response.status_code}: {_message(error.response)}"
        raise CalibrationError(f"the gateway refused the request: {problem}") from error
    except httpx2.TransportError as error:
        raise CalibrationError(f"no gateway answers at {http.base_url}: {error!r}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CalibrationError(f"{http.base_url} is no Waypost gateway's /v1") from error


def _price(told: Mapping[str, Any]) -> Price | None:
    figures = told.get("input_usd_per_mtok"), told.get("output_usd_per_mtok")
    if not all(isinstance(figure, int | float) for figure in figures):
        return None
    return Price(*map(float, figures))  # type: ignore[arg-type]


def _is_final(model: str, status: int, problem: str) -> bool:
    """Say whether trying again is of no use.

    Raises:
        CalibrationError: Nor is asking anything else.
        ModelUnusable: Nor is asking this model anything else.
    """
    if status == REFUSED_KEY:
        raise CalibrationError(f"{model}: the gateway refused the request: {problem}")
    if status in REFUSED_MODEL:
        raise ModelUnusable(f"the gateway refused the request: {problem}")
    return status not in PASSING_STATUSES


def _cost_usd(response: httpx2.Response, worst_usd: float) -> float:
    """Return what a call cost; what timed out may have been answered."""
    cost = response.headers.get(COST_HEADER)
    if cost is not None:
        return float(cost)
    return worst_usd if response.status_code == TIMEOUT_STATUS else 0.0


def _given(response: httpx2.Response, latency_s: float) -> GivenAnswer:
    if FALLBACK_HEADER in response.headers:
        raise AnswerFailed("the model failed, and a fallback answered in its place")
    cost = response.headers.get(COST_HEADER)
    if cost is None:
        raise CalibrationError(
            f"{response.url} sends no {COST_HEADER} header: --url must be a Waypost gateway's /v1"
        )
    try:
        body = response.json()
        usage = body.get("usage") or {}
        return GivenAnswer(
            text=body["choices"][0]["message"]["content"] or "",
            prompt_tokens=int(usage.get("prompt_tokens", 0)),
            completion_tokens=int(usage.get("completion_tokens", 0)),
            cost_usd=float(cost),
            latency_s=latency_s,
            # The gateway's own id: providers' need not differ.
            answer_id=response.headers.get(REQUEST_HEADER),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise AnswerFailed(f"not a chat completion: {response.text[:200]}") from error


def _message(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def _wait_s(response: httpx2.Response, attempt: int) -> float:
    asked = response.headers.get("retry-after", "")
    return min(float(asked) if asked.isdigit() else 2.0**attempt, MAX_WAIT_S)
