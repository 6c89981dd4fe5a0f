"""A gateway with models of every kind and endpoints that are passed through, and what they say."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import Row, select

from gateway.budgets.definitions import BudgetDefinitions
from migrations.tables import SETTLEMENTS
from tests.fakes.budgets import budget
from tests.fakes.gateway import CLAUDE, PRICE, SMALL, RunningGateway, running_gateway
from tests.fakes.turns import until
from tests.fakes.upstream import Answer, json_answer

BOUNDARY = "xyz"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
EMBEDDER = "text-embedding-3-small"
RERANKER = "rerank-v3.5"
WRITER = "gpt-3.5-turbo-instruct"
ONE_WAY = {"input_usd_per_mtok": 0.02, "output_usd_per_mtok": 0.0}
MODELS: Mapping[str, Any] = {
    SMALL: {"provider": "alpha", "upstream_name": "alpha-small", "price": PRICE},
    "large": {"provider": "beta", "upstream_name": "beta-large", "price": PRICE},
    CLAUDE: {"provider": "gamma", "upstream_name": "claude-sonnet-4-5", "price": PRICE},
    EMBEDDER: {"provider": "alpha", "price": ONE_WAY},
    WRITER: {"provider": "alpha", "price": PRICE},
    RERANKER: {
        "provider": "alpha",
        "price": {
            "input_usd_per_mtok": 0.0,
            "output_usd_per_mtok": 0.0,
            "search_unit_usd": 0.002,
        },
    },
}
PASSED: Mapping[str, Any] = {
    "moderations": {
        "provider": "alpha",
        "path": "/v1/moderations",
        "models": ["omni-moderation-latest"],
        "price_per_call_usd": 0.0,
    },
    "images": {
        "provider": "alpha",
        "path": "/v1/images/generations",
        "fields": ["n", "prompt", "size"],
        "price_per_call_usd": 0.0,
        "price_per_item_usd": 0.04,
    },
    "edits": {
        "provider": "alpha",
        "path": "/v1/images/edits",
        "models": ["gpt-image-1"],
        "price_per_call_usd": 0.0,
        "price_per_item_usd": 0.04,
    },
    "speech": {
        "provider": "alpha",
        "path": "/v1/audio/speech",
        "price_per_call_usd": 0.001,
        "price_per_mb_usd": 15.0,
    },
    "transcriptions": {
        "provider": "alpha",
        "path": "/v1/audio/transcriptions",
        "price_per_call_usd": 0.0,
        "used_field": "usage.seconds",
        "price_per_used_usd": 0.0001,
        "most_used": 600,
    },
    "files": {
        "provider": "beta",
        "path": "/v1/files",
        "teams": ["default"],
        "price_per_call_usd": 0.0,
    },
    "list_files": {
        "provider": "beta",
        "path": "/v1/files",
        "method": "GET",
        "teams": ["default"],
        "price_per_call_usd": 0.0,
    },
    "file": {
        "provider": "beta",
        "path": "/v1/files/{file_id}",
        "method": "GET",
        "teams": ["default"],
        "price_per_call_usd": 0.0,
    },
}


@asynccontextmanager
async def gateway_of_endpoints(path: Path, **changes: Any) -> AsyncIterator[RunningGateway]:
    """Run a gateway with all of these."""
    settings = {
        "models": MODELS,
        "passthrough": PASSED,
        "profiles": {"balanced": {"willingness_to_pay_usd": 1.0}},
        "budgets": {"definitions_poll_s": 0.01},
    }
    async with running_gateway(path, **{**settings, **changes}) as running:
        yield running


async def cap(gateway: RunningGateway, nusd: int, **changes: Any) -> None:
    """Let the first team spend so much."""
    fields = {"team_id": "default", "scope": "team", "measure": "nusd", **changes}
    budget(gateway.engine, nusd, **fields)
    book = gateway.app.budgets.book
    newest = BudgetDefinitions(gateway.engine).changes(0, 1000)[-1].revision
    await until(lambda: book.revision >= newest)


async def journal(gateway: RunningGateway, rows: int) -> list[Row[Any]]:
    """Return the journal's rows once there are so many."""

    def read() -> list[Row[Any]]:
        with gateway.engine.connect() as connection:
            return list(connection.execute(select(SETTLEMENTS)))

    await until(lambda: len(read()) >= rows)
    return read()


def vectors(n: int = 1, tokens: int | None = 5, embedding: Any = (0.25, -0.5)) -> Answer:
    """Answer as OpenAI's embeddings do."""
    data = [{"object": "embedding", "index": i, "embedding": embedding} for i in range(n)]
    body: dict[str, Any] = {"object": "list", "data": data, "model": EMBEDDER}
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_answer(body)


def written(text: str, finish_reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """Build a text completion, whole or a chunk."""
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "upstream"}
    return {**head, "choices": [choice], **fields}


def form(*parts: str, file: bytes = b"data") -> bytes:
    """Write a form of whole parts, and a file behind them."""
    written = [*parts, 'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n']
    body = b"".join(f"--{BOUNDARY}\r\n{part}".encode() + b"\r\n" for part in written[:-1])
    return body + f"--{BOUNDARY}\r\n{written[-1]}".encode() + file + f"\r\n--{BOUNDARY}--".encode()


def text_field(name: str, value: str) -> str:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'


async def row_of(gateway: RunningGateway, answer: httpx2.Response) -> Row[Any]:
    """Return the journal's row of a request, once it is written."""
    name = answer.headers["x-request-id"]

    def read() -> list[Row[Any]]:
        with gateway.engine.connect() as connection:
            query = select(SETTLEMENTS).where(SETTLEMENTS.c.request_id == name)
            return list(connection.execute(query))

    await until(lambda: bool(read()))
    return read()[0]
