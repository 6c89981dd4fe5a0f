"""Four places that host one model and enforce limits as providers do, for each contender apart.

A place admits a number of calls per minute by a token bucket of `BURST_S`, and a number at once.
Beyond that it answers 429 with ``retry-after`` in whole seconds. Every answer carries
``x-ratelimit-*`` as OpenAI documents them: what is left, and when all of it is there again.
"""

import asyncio
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from aiohttp import web

BURST_S: Final = 5.0
"""A place that was idle takes the calls of so long at once."""
SIGMA: Final = 0.5
"""Of the logarithm of the time that an answer takes."""
FIRST_PART: Final = 0.3
"""Of an answer's time passes before a stream's first event."""
MODEL: Final = "answers-1"


@dataclass(frozen=True, slots=True)
class Place:
    """What one place takes, and how long it takes for an answer."""

    name: str
    per_minute: int
    at_once: int
    median_s: float


PLACES: Final = (
    Place("large", 120, 20, 0.6),
    Place("second-key", 96, 20, 0.6),
    Place("slow", 96, 8, 2.5),
    Place("small", 48, 20, 0.6),
)
REVOKED: Final = "second-key"
PER_S: Final = sum(place.per_minute for place in PLACES) / 60


@dataclass
class Served:
    """One place as it serves one contender in one round."""

    place: Place
    rng: np.random.Generator
    clock: Callable[[], float]
    revoked_at_s: float = math.inf
    calls: int = 0
    answers: int = 0
    refused: int = 0
    in_flight: int = 0
    _tokens: float = 0.0
    _filled_s: float = 0.0
    _has_begun: bool = False

    @property
    def per_s(self) -> float:
        """Calls that the limit admits per second."""
        return self.place.per_minute / 60

    def left(self) -> float:
        """Fill the bucket up to now; return what is in it."""
        most, now_s = self.per_s * BURST_S, self.clock()
        if not self._has_begun:
            self._has_begun, self._tokens = True, most / 2
        else:
            self._tokens = min(most, self._tokens + (now_s - self._filled_s) * self.per_s)
        self._filled_s = now_s
        return self._tokens

    def refusal(self) -> web.Response | None:
        """Admit a call, or say why not."""
        self.calls += 1
        if self.clock() >= self.revoked_at_s:
            return _error(401, "Incorrect API key provided.", "invalid_api_key", {})
        if (left := self.left()) < 1:
            self.refused += 1
            wait_s = (1 - left) / self.per_s
            return self._limited({"retry-after": str(math.ceil(wait_s)), **self.headers()})
        if self.in_flight >= self.place.at_once:
            self.refused += 1
            return self._limited({"retry-after": "1", **self.headers()})
        self._tokens -= 1
        return None

    def headers(self) -> Mapping[str, str]:
        """Say what is left of the limit."""
        full_s = (self.per_s * BURST_S - self._tokens) / self.per_s
        return {
            "x-ratelimit-limit-requests": str(self.place.per_minute),
            "x-ratelimit-remaining-requests": str(int(self._tokens)),
            "x-ratelimit-reset-requests": f"{max(full_s, 0.0):.3f}s",
        }

    def _limited(self, headers: Mapping[str, str]) -> web.Response:
        return _error(429, "Rate limit reached for requests.", "rate_limit_exceeded", headers)


@dataclass
class Upstreams:
    """All places of all contenders, behind one socket: ``/CONTENDER/PLACE/v1/...``."""

    clock: Callable[[], float]
    served: dict[tuple[str, str], Served] = field(default_factory=dict)

    def begin(self, contenders: Iterator[str], seed: int, revoked_at_s: float) -> None:
        """Begin a round: every contender finds the same places."""
        self.served = {
            (contender, place.name): Served(
                place,
                np.random.default_rng((seed, zlib.crc32(place.name.encode()))),
                self.clock,
                revoked_at_s if place.name == REVOKED else math.inf,
            )
            for contender in contenders
            for place in PLACES
        }

    def of(self, contender: str) -> list[Served]:
        """Return the places of one contender."""
        return [one for (name, _), one in self.served.items() if name == contender]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        key = request.match_info["contender"], request.match_info["place"]
        is_stream = bool((await request.json()).get("stream"))
        served = self.served[key]
        if (refusal := served.refusal()) is not None:
            return refusal
        headers = served.headers()
        takes_s = served.place.median_s * float(served.rng.lognormal(0.0, SIGMA))
        served.in_flight += 1
        try:
            if is_stream:
                return await _stream(request, headers, takes_s, served)
            await asyncio.sleep(takes_s)
        finally:
            served.in_flight -= 1
        served.answers += 1
        return web.json_response(_completion(), headers=headers)


async def serve(upstreams: Upstreams) -> tuple[web.AppRunner, str]:
    """Serve on a free port; the caller cleans the runner up."""
    app = web.Application()
    app.router.add_post("/{contender}/{place}/v1/chat/completions", upstreams.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def _stream(
    request: web.Request, headers: Mapping[str, str], takes_s: float, served: Served
) -> web.StreamResponse:
    response = web.StreamResponse(headers={**headers, "content-type": "text/event-stream"})
    await asyncio.sleep(takes_s * FIRST_PART)
    await response.prepare(request)
    await response.write(_event({"role": "assistant", "content": "It is"}))
    await asyncio.sleep(takes_s * (1 - FIRST_PART))
    await response.write(_event({"content": " 42."}) + _event({}, finish_reason="stop"))
    usage = {**_chunk(), "choices": [], "usage": _completion()["usage"]}
    await response.write(f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode())
    served.answers += 1
    return response


def _event(delta: Mapping[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({**_chunk(), 'choices': [choice]})}\n\n".encode()


def _chunk() -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}


def _completion() -> dict[str, Any]:
    message = {"role": "assistant", "content": "It is 42."}
    return {
        **_chunk(),
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
    }


def _error(status: int, message: str, code: str, headers: Mapping[str, str]) -> web.Response:
    error = {"message": message, "type": "requests", "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)
