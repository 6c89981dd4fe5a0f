"""What no database holds, and a database that cannot be used, on every route of the admin API."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine, text

from budget.ledger.memory import MemoryStore
from gateway.budgets.operations import BudgetDesk
from gateway.endpoints.admin import build_admin_app
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.row_layout import to_row
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine, writing
from gateway.storage.rows import insert_rows
from tests.fakes.budgets import Clock
from tests.fakes.routes import every_route
from tests.fakes.schemas import closing, with_schema
from tests.fakes.turns import make_turn

TOKEN = "the-admin-token-of-this-test"
TURN = "req_0000000000000000"
MONEY = {"scope": "user", "measure": "nusd", "window": "total", "cap": 9}
CALLS: dict[tuple[str, str], dict[str, Any] | None] = {
    ("POST", "/admin/teams"): {"id": "red", "logs_text": True},
    ("GET", "/admin/teams?after=a&limit=9"): None,
    ("GET", "/admin/teams/blue"): None,
    ("PATCH", "/admin/teams/blue"): {"logs_text": True, "trains_reasoner": False},
    ("DELETE", "/admin/teams/blue?dry_run=true"): None,
    ("POST", "/admin/keys"): {
        "team_id": "blue",
        "name": "n",
        "allowed_models": ["small"],
        "profile": "p",
        "expires_at": "2030-01-01T00:00:00Z",
    },
    ("GET", "/admin/keys?team_id=blue&after=a&limit=9"): None,
    ("GET", "/admin/keys/KEY"): None,
    ("PATCH", "/admin/keys/KEY"): {"name": "n", "allowed_models": ["small"], "profile": "p"},
    ("POST", "/admin/keys/KEY/rotate"): {"overlap_s": 1},
    ("POST", "/admin/budgets"): {"team_id": "blue", "scope_id": "u", **MONEY},
    ("GET", "/admin/budgets?team_id=blue&after=a&limit=9"): None,
    ("GET", "/admin/budgets/BUDGET"): None,
    ("PATCH", "/admin/budgets/BUDGET"): {"cap": 8},
    ("GET", "/admin/budgets/BUDGET/usage?team_id=blue&scope_id=u"): None,
    ("POST", "/admin/budgets/BUDGET/reset"): {"team_id": "blue", "scope_id": "u"},
    ("POST", "/admin/budgets/prune"): {"older_than_days": 40},
    ("POST", "/admin/budgets/rebuild"): None,
    ("POST", "/admin/budgets/verify"): None,
    ("DELETE", "/admin/budgets/BUDGET"): None,
    ("POST", "/admin/keys/KEY/revoke"): None,
    ("GET", "/admin/turns/TURN"): None,
    ("GET", "/admin/spend?by=task&team=blue&user=u&key=KEY&since=2026-01-01"): None,
}
"""Every route, in an order in which each succeeds."""


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = create_database_engine(database_url, busy_timeout_s=0.05)
    with closing(with_schema(opened)) as engine:
        add_turn(engine)
        yield engine


def add_turn(engine: Engine) -> None:
    """Log the turn that calls ask for."""
    with writing(engine) as connection:
        insert_rows(connection, [to_row(make_turn(1, request_id=TURN))])


def application(engine: Engine, folder: Path) -> FastAPI:
    async def show(*, is_open: bool = False) -> bytes:
        return b""

    log = EvaluationLog(engine, EvaluationLogSettings(), folder / "spool")
    desk = BudgetDesk(engine, MemoryStore(Clock()), Clock())
    token = SecretStr(TOKEN)
    return build_admin_app(engine=engine, log=log, token=token, metrics=show, budgets=desk)


@asynccontextmanager
async def operating(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://admin", headers=headers
    ) as http:
        yield http


async def named(http: httpx2.AsyncClient) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Make what the calls are about; return them with its ids in them."""
    await http.post("/admin/teams", json={"id": "blue"})
    key = (await http.post("/admin/keys", json={"team_id": "blue", "name": "n"})).json()
    budget = (await http.post("/admin/budgets", json={"team_id": "blue", **MONEY})).json()
    return [
        (
            method,
            path.replace("KEY", key["id"]).replace("BUDGET", budget["id"]).replace("TURN", TURN),
            body,
        )
        for (method, path), body in CALLS.items()
    ]


def test_every_route_is_attacked(engine, tmp_path) -> None:
    routes = {
        (method, route.path)
        for route in every_route(application(engine, tmp_path))
        for method in route.methods - {"HEAD"}
        if route.path.startswith("/admin") and route.path != "/admin/log"
    }
    assert len(routes) == len(CALLS)


async def test_each_call_succeeds_as_it_is(engine, tmp_path) -> None:
    async with operating(application(engine, tmp_path)) as http:
        for method, path, body in await named(http):
            answer = await http.request(method, path, json=body)
            assert answer.status_code < 300, (method, path, answer.text)


ODD = [rb'"a\u0000b"', rb'"\ud800"', rb'"\udfff x"', b"1e308", b"-1e30", b"9" * 30, b"[[]]"]
ODD += [b"[" * depth + b"]" * depth for depth in (300, 900, 990, 50_000)]


async def test_what_no_database_holds_is_refused_in_every_field(engine, tmp_path) -> None:
    async with operating(application(engine, tmp_path)) as http:
        for method, path, body in await named(http):
            for field in body or ():
                for odd in ODD:
                    raw = orjson.dumps({**(body or {}), field: "MARK"}).replace(b'"MARK"', odd)
                    answer = await http.request(method, path, content=raw)
                    assert answer.status_code == 400, (method, path, field, odd, answer.text)
                    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_what_no_database_holds_is_refused_within_a_list(engine, tmp_path) -> None:
    async with operating(application(engine, tmp_path)) as http:
        await http.post("/admin/teams", json={"id": "blue"})
        for odd in ODD:
            raw = b'{"team_id":"blue","name":"n","allowed_models":["a",%b]}' % odd
            assert (await http.post("/admin/keys", content=raw)).status_code == 400


@pytest.mark.parametrize("odd", ["%00", "a%00b", "%ff", "%ed%a0%80", "x" * 10_000])
async def test_what_no_database_holds_is_refused_in_every_path_and_query(
    engine, tmp_path, odd
) -> None:
    async with operating(application(engine, tmp_path)) as http:
        await named(http)
        for (method, path), body in CALLS.items():
            with_odd = path
            for name in ("KEY", "BUDGET", "TURN", "blue"):
                with_odd = with_odd.replace(name, odd)
            answer = await http.request(
                method, with_odd.replace("after=a", f"after={odd}"), json=body
            )
            is_same = with_odd.replace("after=a", "") == path.replace("after=a", "")
            assert answer.status_code in ({200, 201, 400} if is_same else {200, 400, 404}), path


async def test_writes_to_a_locked_database_are_to_be_tried_again(tmp_path) -> None:
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}", busy_timeout_s=0.01)
    add_turn(with_schema(engine))
    async with operating(application(engine, tmp_path)) as http:
        calls = await named(http)
        with engine.connect() as other:
            other.execution_options(sqlite_begin="BEGIN IMMEDIATE").execute(text("SELECT 1"))
            for method, path, body in calls:
                answer = await http.request(method, path, json=body)
                is_read = method == "GET" or path.endswith(("verify", "dry_run=true"))
                # A rebuild of no counters writes nothing.
                expected = {200} if is_read else {503} | ({200} if "rebuild" in path else set())
                assert answer.status_code in expected, (method, path, answer.text)
                if answer.status_code == 503:
                    assert answer.json()["error"]["code"] == "temporarily_unavailable"
                    assert int(answer.headers["retry-after"]) >= 1
    engine.dispose()


@pytest.mark.parametrize("broken", ["gone", "no database"])
async def test_without_a_database_every_route_is_to_be_tried_again(tmp_path, broken) -> None:
    file = tmp_path / "waypost.db"
    file.write_bytes(b"This is no database." * 100)
    urls = {"gone": "postgresql://u:p@127.0.0.1:1/x", "no database": f"sqlite:///{file}"}
    engine = create_database_engine(urls[broken])
    async with operating(application(engine, tmp_path)) as http:
        for (method, path), body in CALLS.items():
            answer = await http.request(method, path, json=body)
            assert answer.status_code == 503, (method, path, answer.text)
            assert "retry-after" in answer.headers
            assert "127.0.0.1" not in answer.text
    engine.dispose()
