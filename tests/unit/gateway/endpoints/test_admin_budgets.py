from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from budget.ledger.memory import MemoryStore
from budget.ledger.types import Hold, Limit, Scope
from gateway.access.auth import declared_authentication
from gateway.budgets.operations import BudgetDesk
from gateway.endpoints.admin import build_admin_app
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.settings.config import EvaluationLogSettings
from tests.fakes.budgets import Clock, migrated
from tests.fakes.routes import every_route

TOKEN = "the-admin-token-of-this-test"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock):
    engine = migrated(f"sqlite:///{tmp_path / 'waypost.db'}")
    yield BudgetDesk(engine, MemoryStore(clock), clock)
    engine.dispose()


async def show_nothing(*, is_open: bool = False) -> bytes:
    return b""


@pytest.fixture
def app(desk, tmp_path):
    log = EvaluationLog(desk.engine, EvaluationLogSettings(), tmp_path / "spool")
    return build_admin_app(
        engine=desk.engine, log=log, token=SecretStr(TOKEN), metrics=show_nothing, budgets=desk
    )


@pytest.fixture
async def operator(app):
    headers = {"authorization": f"Bearer {TOKEN}"}
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://admin", headers=headers
    ) as http:
        yield http


def money(**changes):
    return {
        "team_id": "blue",
        "scope": "user",
        "measure": "nusd",
        "window": "total",
        "cap_usd": "0.25",
    } | changes


def test_every_route_needs_the_admin_token(app):
    found = {
        declared_authentication(route)
        for route in every_route(app)
        if route.path.startswith("/admin/budgets")
    }

    assert found == {"admin"}


async def test_strangers_are_refused(app):
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://admin") as stranger:
        for method, path in (("GET", ""), ("POST", "/rebuild"), ("POST", "/x/reset")):
            response = await stranger.request(method, f"/admin/budgets{path}")
            assert response.status_code == 401


async def test_a_budget_is_created_shown_raised_listed_and_deleted(operator):
    created = await operator.post("/admin/budgets", json=money())
    assert created.status_code == 201
    made = created.json()
    assert (made["cap"], made["cap_usd"], made["scope_id"]) == (250_000_000, 0.25, None)
    path = f"/admin/budgets/{made['id']}"
    assert (await operator.get(path)).json() == made

    raised = (await operator.patch(path, json={"cap": 7})).json()

    assert raised["cap"] == 7
    listed = (await operator.get("/admin/budgets?team_id=blue&scope=user&limit=1")).json()
    assert listed == {"data": [raised], "next_after": made["id"]}
    rest = (await operator.get(f"/admin/budgets?after={made['id']}")).json()
    assert rest == {"data": [], "next_after": None}
    assert (await operator.delete(path)).status_code == 200
    assert (await operator.get(path)).status_code == 404


async def test_counters_are_seen_reset_verified_and_rebuilt(operator, desk):
    made = (await operator.post("/admin/budgets", json=money(scope="team"))).json()
    limit = Limit(Scope("blue", "team"), "nusd", "total", 250_000_000)
    await desk.store.reserve(Hold("r", (limit,), 70, 0, 0, 0, 0, 60.0))
    await desk.store.settle("blue", "r", 70, 0)
    path = f"/admin/budgets/{made['id']}"

    (standing,) = (await operator.get(f"{path}/usage")).json()["data"]
    assert (standing["spent"], standing["remaining"]) == (70, 249_999_930)
    found = (await operator.post("/admin/budgets/verify")).json()
    assert [each["counted"] for each in found["differences"]] == [70]
    rebuilt = (await operator.post("/admin/budgets/rebuild")).json()
    assert rebuilt == {"counters": 1, "expired_leases": 0}
    assert (await operator.post("/admin/budgets/verify")).json()["differences"] == []
    assert (await operator.post(f"{path}/reset", json={})).json()["spent"] == 0
    pruned = await operator.post("/admin/budgets/prune", json={"older_than_days": 90})
    assert pruned.json() == {"folded_rows": 0, "expired_leases": 0}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "", money(cap=5), 400),
        ("POST", "", money(cap_usd=None), 400),
        ("POST", "", money(cap_usd="0.0000000001"), 400),
        ("POST", "", money(cap_usd=-1), 400),
        ("POST", "", money(cap_usd="1e20"), 400),
        ("POST", "", money(measure="tokens"), 400),
        ("POST", "", money(cap_usd=None, cap=1.5), 400),
        ("POST", "", money(scope="planet"), 400),
        ("POST", "", money(typo=1), 400),
        ("POST", "", money(team_id="red"), 404),
        ("POST", "", money(scope="turn", window="day"), 400),
        ("PATCH", "/bud_none", {"cap": 5}, 404),
        ("PATCH", "/bud_none", {}, 400),
        ("DELETE", "/bud_none", None, 404),
        ("GET", "/bud_none/usage", None, 404),
        ("POST", "/bud_none/reset", {}, 404),
        ("POST", "/bud_none/reset", {"typo": 1}, 400),
    ],
)
async def test_bad_requests_are_answered_in_openai_shape(operator, method, path, body, status):
    response = await operator.request(method, f"/admin/budgets{path}", json=body)

    assert response.status_code == status, response.text
    assert set(response.json()["error"]) >= {"message", "type", "param", "code"}


async def test_whose_counter_of_a_default_must_be_said(operator):
    made = (await operator.post("/admin/budgets", json=money())).json()

    refused = await operator.post(f"/admin/budgets/{made['id']}/reset", json={})
    reset = await operator.post(f"/admin/budgets/{made['id']}/reset", json={"scope_id": "alice"})

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "scope_id")
    assert reset.json()["spent"] == 0
