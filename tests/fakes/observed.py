"""A gateway under traffic of every kind, with a Prometheus that watches it.

Organisation ``acme`` with its real queries and grades; half of its models sit behind a provider
that fails for a while.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import orjson
from click.testing import CliRunner

from federation.deployment.sessions import SessionStore
from federation.deployment.supervisor import ChildProcess, Supervisor
from federation.privacy.accounting import PrivacyAccount
from federation.protocol.report import RoundReport, SessionReport
from federation.site import Verdict
from gateway.artifacts.store import ArtifactStore
from gateway.commands.budgets import command as budgets_command
from gateway.commands.frontier import command as frontier_command
from gateway.evaluation_log.log_export import DatabaseRows
from gateway.federation.metrics import exposed, read_children, read_node, read_sessions
from gateway.settings.config import GatewaySettings, load_settings
from gateway.storage.database import create_database_engine
from gateway.telemetry.families import Read
from router_models.artifacts.artifact import dump
from router_models.artifacts.assessment import Assessment
from router_models.artifacts.registry import ModelRegistry
from router_models.evaluation.log_rows import read_log_rows
from router_models.statistics import select
from router_models.training.train import train
from router_models.types import Evaluations
from tests.fakes.organisations import Organisation, encoder, organisations
from tests.fakes.processes import CHAT, Serving, caller, start
from tests.fakes.prometheus import Prometheus, scraping
from tests.fakes.server import serve

SETTINGS = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
[embedded]
enabled = false
[routing.exploration]
kind = "epsilon"
epsilon = 0.3
[turn_budgets]
tokens_per_conversation = 4000
[providers.steady]
base_url = "{upstream}/steady/v1"
[providers.shaky]
base_url = "{upstream}/shaky/v1"
max_retries = 1
breaker_failures = 3
breaker_cooldown_s = 2
"""
MODEL = """
[models."{name}"]
provider = "{provider}"
price = {{ input_usd_per_mtok = {price}, output_usd_per_mtok = {price} }}
"""
POOL = (
    "codegemma-7b",
    "gemma-2-9b-it",
    "mistral-7b-instruct-v0.3",
    "llama-3.1-nemotron-51b-instruct",
)
FEW = 80
"""Queries that the router which serves has learned from."""
CHILDREN = ("superlink", "conductor", "supernode", "node")
SITES = ("acme", "borealis", "cirrus")
REPORT = SessionReport(
    members=dict.fromkeys(SITES),
    refused={"7": "its encoder is another"},
    rounds=[
        RoundReport(1, "query.rows", SITES, {}, (), 4.0),
        RoundReport(2, "query.fit", SITES[:2], {"cirrus": "not finite"}, (), 6.5),
        RoundReport(3, "query.fit", SITES[:2], {}, ("cirrus",), 5.5),
    ],
    verdicts={
        "acme": Verdict("activated", "kmeans-1", "it does not lose"),
        "borealis": Verdict("candidate", "kmeans-1", "it may lose"),
    },
    unanswered={"cirrus": "no answer in time"},
)
"""Of a session at whose end one of the sites was gone."""
CALLERS = 4
GREEDY = "greedy"
"""A user who asks for more than the budget of every user allows."""


@dataclass(eq=False)
class Upstream:
    """Both providers: answers at each model's own pace, fails where and while it is told."""

    rng: random.Random
    is_failing: bool = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        request = orjson.loads(body)
        await asyncio.sleep(0.002 * len(request["model"]) * self.rng.expovariate(1.0))
        if self.is_failing and scope["path"].startswith("/shaky"):
            await _send(send, 503, b"application/json", [b'{"error": {"message": "down"}}'])
        elif request.get("stream"):
            await _send(send, 200, b"text/event-stream", self._events(request))
        else:
            answer = {
                "id": f"chatcmpl-{self.rng.getrandbits(64):x}",
                "object": "chat.completion",
                "created": 1,
                "model": request["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "B"},
                        "finish_reason": "stop",
                    }
                ],
                "usage": self._usage(request),
            }
            await _send(send, 200, b"application/json", [orjson.dumps(answer)])

    def _events(self, request: Any) -> list[bytes]:
        base = {"id": "chatcmpl-s", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        deltas = [{"index": 0, "delta": {"content": "B"}, "finish_reason": None}] * 8
        events = [base | {"choices": [delta]} for delta in deltas]
        events += [base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
        events += [base | {"choices": [], "usage": self._usage(request)}]
        return [*(b"data: " + orjson.dumps(e) + b"\n\n" for e in events), b"data: [DONE]\n\n"]

    def _usage(self, request: Any) -> dict[str, Any]:
        prompt = len(request["messages"][-1]["content"]) // 4
        completion = min(self.rng.randint(20, 180), request.get("max_completion_tokens", 180))
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": prompt // 2},
        }


async def _send(send: Any, status: int, kind: bytes, chunks: list[bytes]) -> None:
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]}
    )
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@dataclass(eq=False)
class Traffic:
    """Callers of one gateway who ask what the organisation asked and grade what they get."""

    organisation: Organisation
    http: httpx2.AsyncClient
    rng: random.Random
    sent: int = 0
    statuses: list[int] = field(default_factory=list)

    async def flow(self, seconds: float, pause_s: float, requests: int = 0) -> None:
        """Ask for so long, and longer on a slow machine: until so many were sent."""
        end_s, enough = time.monotonic() + seconds, self.sent + requests

        async def ask_on() -> None:
            while time.monotonic() < end_s or self.sent < enough:
                await self._ask()
                await asyncio.sleep(pause_s)

        await asyncio.gather(*(ask_on() for _ in range(CALLERS)))

    async def _ask(self) -> None:
        self.sent += 1
        number = self.sent
        query = self.rng.randrange(len(self.organisation.texts))
        text = self.organisation.texts[query]
        body: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        body["model"] = self.rng.choice(("auto", "auto", "auto", "economy", "quality"))
        if number % 10 == 0:
            body["model"] = POOL[number // 10 % len(POOL)]
        if number % 7 == 0:
            body |= {"stream": True}
        if number % 3 == 0:
            body["user"] = GREEDY if number % 4 == 0 else f"user-{number % 97}-{number}"
        headers = {}
        if number % 5 == 0:
            headers["x-waypost-conversation-id"] = f"conversation-{number // 25}"
        if number % 41 == 0:
            headers["authorization"] = "Bearer wp-nobody"
        if number % 53 == 0:
            body["messages"] = "not a list"
        answer = await self.http.post(CHAT, json=body, headers=headers)
        self.statuses.append(answer.status_code)
        if answer.status_code == 200 and self.rng.random() < 0.7:
            await self._grade(query, answer)

    async def _grade(self, query: int, answer: httpx2.Response) -> None:
        model = answer.headers.get("x-waypost-model")
        if model in POOL:
            column = POOL.index(model)
            score = float(self.organisation.truth.quality[query, column])
            given = {"id": answer.headers["x-request-id"], "score": score}
            await self.http.post("/v1/feedback", json=given)


@dataclass(frozen=True, eq=False)
class Observed:
    """What is being watched."""

    prometheus: Prometheus
    gateway: Serving
    upstream: Upstream
    traffic: Traffic


@asynccontextmanager
async def observed(folder: Path, rule_files: tuple[Path, ...] = ()) -> AsyncIterator[Observed]:
    """Start a gateway with a router, a candidate, budgets and a measured frontier; and watch it."""
    acme = _with_models(organisations()[0])
    async with AsyncExitStack() as stack:
        upstream = Upstream(random.Random(0))
        url = await stack.enter_async_context(serve(upstream, lifespan="off"))
        file = folder / "waypost.toml"
        file.write_text(_settings(acme, folder / "data", url))
        settings = load_settings(file, {})
        key = acme.fill(settings, encoder(), seed=0)
        _store_routers(settings)
        _run(frontier_command, "--config", str(file))
        for limits in (
            ("--scope", "user", "--requests", "3", "--per", "day"),
            ("--usd", "1", "--per", "month"),
        ):
            _run(budgets_command, "create", "--config", str(file), "--team", "default", *limits)
        gateway = await stack.enter_async_context(start(file))
        public = await gateway.started()
        http = await stack.enter_async_context(caller(public, key))
        federation = _expose_federation(folder, ArtifactStore(settings.artifact_dir), stack)
        jobs = {"waypost": _address(gateway.admin_url), **federation}
        prometheus = await stack.enter_async_context(scraping(folder, jobs, rule_files))
        yield Observed(prometheus, gateway, upstream, Traffic(acme, http, random.Random(1)))


def _with_models(acme: Organisation) -> Organisation:
    """Leave only some of its models, so that its log tells which one is the best."""
    columns = [acme.truth.models.index(name) for name in POOL]
    truth = Evaluations(
        acme.truth.embeddings, acme.truth.quality[:, columns], acme.truth.cost_usd[:, columns], POOL
    )
    return replace(acme, truth=truth, prices=acme.prices[columns])


def _settings(acme: Organisation, data: Path, upstream: str) -> str:
    models = [
        MODEL.format(name=name, price=price, provider="shaky" if place % 2 else "steady")
        for place, (name, price) in enumerate(zip(acme.truth.models, acme.prices, strict=True))
    ]
    return SETTINGS.format(data=data, upstream=upstream) + "".join(models)


def _store_routers(settings: GatewaySettings) -> None:
    """Let a router serve that learned from few rows, and keep one of all rows as the candidate."""
    store = ArtifactStore(settings.artifact_dir)
    engine = create_database_engine(settings.database_url)
    logged = read_log_rows(DatabaseRows(engine).iter_evaluations(), encoder().dimension, 10_000)
    engine.dispose()
    rows, held_out = (
        logged.evaluations(split, logged.models, ModelRegistry()) for split in ("train", "val")
    )
    few = select(rows, np.arange(FEW))
    for taken, day in ((few, 1), (rows, 2)):
        made_at = datetime(2026, 11, day, tzinfo=UTC)
        data = dump(
            train(taken, held_out, "kmeans", 0),
            encoder(),
            created_at=made_at,
            training={"seed": 0},
            provenance={"train_queries": len(taken.quality)},
        )
        version = store.put(data).version
        if taken is few:
            store.activate(version)
        else:
            store.note(version, Assessment("candidate", "it waits", made_at))


def _expose_federation(folder: Path, store: ArtifactStore, stack: AsyncExitStack) -> dict[str, str]:
    """Answer scrapes as a coordinator and a node do that have been through a session."""
    sessions = SessionStore(folder / "sessions")
    now = datetime.now(UTC)
    begun = sessions.begin(sessions.ask("schedule", now), run_id=1)
    sessions.end(begun, now, report=asdict(REPORT), reason=None)
    account = PrivacyAccount(folder / "privacy.json", epsilon=8.0, delta=1e-6)
    flower, ours = (_children(folder, *names) for names in (CHILDREN[:2], CHILDREN[2:]))
    for group in (flower | ours).values():
        running = asyncio.create_task(group.run())
        stack.push_async_callback(_cancel, running)
    reads: dict[str, tuple[Read, ...]] = {
        "coordinator": (read_sessions(sessions), read_children(flower)),
        "node": (read_node(store, account), read_children(ours)),
    }
    return {
        f"waypost-{name}": _address(stack.enter_context(exposed("127.0.0.1", 0, *read)) or "")
        for name, read in reads.items()
    }


def _children(folder: Path, *names: str) -> dict[str, Supervisor]:
    """Make groups of a process that does nothing each."""
    function = "tests.fakes.child_functions:note_and_wait"
    return {
        name: Supervisor((ChildProcess(name, function, folder / "log", (folder / "pids",)),), print)
        for name in names
    }


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _address(url: str) -> str:
    return url.removeprefix("http://").removesuffix("/metrics")


def _run(command: Any, *arguments: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
