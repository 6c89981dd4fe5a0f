import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from fastapi import APIRouter
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Route

from gateway.access.auth import Authenticator, declared_authentication
from gateway.budgets.definitions import scope_digest
from gateway.endpoints.admin import MAX_BODY_BYTES, build_admin_app
from gateway.errors import Unauthenticated
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.settings.config import EvaluationLogSettings, KeySettings
from tests.fakes.patience import PATIENCE_S
from tests.fakes.routes import every_route
from tests.fakes.turns import make_turn

TOKEN = "the-admin-token-of-this-test"


@pytest.fixture
def log(engine, tmp_path: Path) -> EvaluationLog:
    return EvaluationLog(engine, EvaluationLogSettings(), tmp_path / "spool")


async def show(*, is_open: bool = False) -> bytes:
    return b"waypost_up 1\n# EOF\n" if is_open else b"waypost_up 1\n"


@pytest.fixture
def app(engine, log):
    return build_admin_app(engine=engine, log=log, token=SecretStr(TOKEN), metrics=show)


@pytest.fixture
async def stranger(app):
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://admin") as http:
        yield http


@pytest.fixture
async def operator(app):
    headers = {"authorization": f"Bearer {TOKEN}"}
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://admin", headers=headers
    ) as http:
        yield http


def test_every_route_declares_its_authentication(app):
    undeclared = [r.path for r in every_route(app) if declared_authentication(r) is None]

    assert undeclared == []


def test_only_health_and_metrics_are_public(app):
    public = {r.path for r in every_route(app) if declared_authentication(r) == "public"}

    assert public == {"/health", "/metrics"}


def test_a_route_without_authentication_is_noticed(app):
    forgetful = APIRouter()
    forgetful.get("/forgotten")(lambda: None)
    app.include_router(forgetful, prefix="/late")
    app.mount("/mounted", Starlette(routes=[Route("/inside", lambda request: None)]))

    undeclared = {r.path for r in every_route(app) if declared_authentication(r) is None}
    assert undeclared == {"/late/forgotten", "/inside"}


async def test_every_other_route_refuses_strangers(app, operator, stranger):
    paths = (await operator.get("/openapi.json")).json()["paths"]
    calls = [(m, p) for p, methods in paths.items() for m in methods if p.startswith("/admin")]

    assert len(calls) == 14
    for method, path in calls:
        response = await stranger.request(method, path)
        assert response.status_code == 401, (method, path)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", "Basic eA=="])
async def test_a_wrong_token_is_refused_in_openai_shape(stranger, header):
    response = await stranger.get("/admin/teams", headers={"authorization": header})

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


async def test_strangers_see_health_and_metrics(stranger):
    assert (await stranger.get("/health")).json() == {"status": "ok"}
    assert (await stranger.get("/metrics")).text == "waypost_up 1\n"


async def test_a_team_is_deleted_with_what_belongs_to_it(operator):
    await operator.post("/admin/teams", json={"id": "blue"})
    await operator.post("/admin/keys", json={"team_id": "blue", "name": "k"})

    looked = await operator.delete("/admin/teams/blue", params={"dry_run": "true"})
    assert looked.json() == {"id": "blue", "deleted": {"keys": 1, "budgets": 0}, "is_dry_run": True}
    assert (await operator.get("/admin/teams/blue")).status_code == 200

    deleted = await operator.delete("/admin/teams/blue")
    assert deleted.json()["deleted"] == {"keys": 1, "budgets": 0}
    assert (await operator.get("/admin/teams/blue")).status_code == 404
    assert (await operator.delete("/admin/teams/blue")).status_code == 404
    assert (await operator.post("/admin/teams", json={"id": "blue"})).status_code == 409


async def test_a_scraper_that_takes_openmetrics_gets_it(stranger):
    plain = await stranger.get("/metrics", headers={"accept": "text/plain;version=0.0.4;q=0.5"})
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"
    opened = await stranger.get("/metrics", headers={"accept": accept})

    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")


async def test_a_team_is_created_shown_changed_and_listed(operator):
    created = await operator.post("/admin/teams", json={"id": "blue"})
    assert (created.status_code, created.json()["logs_text"]) == (201, False)

    changed = await operator.patch("/admin/teams/blue", json={"logs_text": True})

    assert changed.json() == (await operator.get("/admin/teams/blue")).json()
    listed = (await operator.get("/admin/teams")).json()
    assert listed == {"data": [changed.json()], "next_after": None}


async def test_a_team_that_is_there_already_is_a_conflict(operator):
    first = await operator.post("/admin/teams", json={"id": "blue"})
    second = await operator.post("/admin/teams", json={"id": "blue"})

    assert (first.status_code, second.status_code) == (201, 409)
    assert second.json()["error"]["code"] == "conflict"


async def test_a_team_opts_in_to_training_without_changing_its_other_choices(operator):
    created = await operator.post("/admin/teams", json={"id": "blue", "logs_text": True})
    assert created.json()["trains_reasoner"] is False

    changed = await operator.patch("/admin/teams/blue", json={"trains_reasoner": True})

    assert changed.json()["trains_reasoner"] is True
    assert changed.json()["logs_text"] is True
    assert changed.json()["is_judged"] is False
    judged = await operator.patch("/admin/teams/blue", json={"is_judged": True})
    assert judged.json() == {**changed.json(), "is_judged": True}


async def test_a_key_lives_from_creation_to_revocation(operator, engine):
    await operator.post("/admin/teams", json={"id": "blue"})
    body = {"team_id": "blue", "name": "laptop", "allowed_models": ["b", "a"]}
    created = (await operator.post("/admin/keys", json=body)).json()
    authenticator = Authenticator(engine, KeySettings(read_timeout_s=PATIENCE_S))
    caller = await authenticator.authenticate(created["key"].encode())
    assert caller.allowed_models == frozenset({"a", "b"})
    path = f"/admin/keys/{created['id']}"

    expiry = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    changes = {"allowed_models": None, "expires_at": expiry}
    changed = (await operator.patch(path, json=changes)).json()
    assert (changed["allowed_models"], changed["name"]) == (None, "laptop")
    assert datetime.fromisoformat(changed["expires_at"]) == datetime.fromisoformat(expiry)

    rotated = (await operator.post(f"{path}/rotate", json={"overlap_s": 60})).json()
    assert rotated["id"] == created["id"]
    assert rotated["key"] != created["key"]

    assert (await operator.post(f"{path}/revoke")).json()["revoked_at"] is not None
    shown = (await operator.get(path)).json()
    assert "key" not in shown
    assert not [name for name in shown if "sha256" in name]
    with pytest.raises(Unauthenticated, match="revoked"):
        await Authenticator(engine, KeySettings(read_timeout_s=PATIENCE_S)).authenticate(
            rotated["key"].encode()
        )
    authenticator.close()


async def test_keys_are_listed_in_pages(operator):
    for team in ("blue", "green"):
        await operator.post("/admin/teams", json={"id": team})
    for number in range(4):
        team = "green" if number == 3 else "blue"
        await operator.post("/admin/keys", json={"team_id": team, "name": str(number)})

    first = (await operator.get("/admin/keys?team_id=blue&limit=2")).json()
    rest = (
        await operator.get(f"/admin/keys?team_id=blue&limit=2&after={first['next_after']}")
    ).json()

    names = {key["name"] for key in first["data"] + rest["data"]}
    assert (names, rest["next_after"]) == ({"0", "1", "2"}, None)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/admin/teams", {"id": "Not Valid"}, 400),
        ("POST", "/admin/teams", {"id": "blue", "typo": 1}, 400),
        ("POST", "/admin/keys", {"team_id": "nobody", "name": "k"}, 404),
        ("POST", "/admin/keys", {"team_id": "nobody", "name": ""}, 400),
        ("POST", "/admin/keys", {"team_id": "t", "name": "k", "expires_at": "2030-01-01"}, 400),
        ("POST", "/admin/keys/none/rotate", {"overlap_s": -1}, 400),
        ("POST", "/admin/keys/none/rotate", {}, 404),
        ("POST", "/admin/keys/none/revoke", None, 404),
        ("PATCH", "/admin/keys/none", {"name": "x"}, 404),
        ("GET", "/admin/keys?limit=0", None, 400),
        ("GET", "/admin/keys/none", None, 404),
        ("GET", "/admin/nothing", None, 404),
        ("PUT", "/admin/teams", {}, 405),
    ],
)
async def test_bad_requests_are_answered_in_openai_shape(operator, method, path, body, status):
    response = await operator.request(method, path, json=body)

    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_malformed_json_is_answered_in_openai_shape(operator):
    response = await operator.post("/admin/teams", content=b"{")

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_that_is_not_sent_as_json_is_refused_with_what_to_send(operator):
    form = {"content-type": "application/x-www-form-urlencoded"}
    response = await operator.post("/admin/teams", content=b'{"id": "red"}', headers=form)

    assert response.status_code == 400
    assert "'Content-Type: application/json'" in response.json()["error"]["message"]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_long_body_is_refused(operator, is_chunked):
    async def chunks():
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b"x" * 65536

    content = chunks() if is_chunked else b"x" * (MAX_BODY_BYTES + 1)
    response = await operator.post("/admin/teams", content=content)

    assert response.status_code == 413
    assert "error" in response.json()


async def test_the_body_of_a_stranger_is_not_read(stranger):
    sent = 0

    async def chunks():
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b"x" * 65536

    response = await stranger.post("/admin/teams", content=chunks())

    assert response.status_code == 401
    assert sent < 64


async def test_the_log_shows_what_became_of_its_rows(operator, log):
    log.record(make_turn(1))

    shown = (await operator.get("/admin/log")).json()

    assert (shown["recorded"], shown["queue_depth"], shown["dropped"]) == (1, 1, 0)
    assert shown["is_database_down"] is False


async def test_the_description_names_every_path(operator):
    described = json.loads((await operator.get("/openapi.json")).text)

    assert "/admin/keys/{key_id}/rotate" in described["paths"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/admin/keys?team=blue", "no parameter 'team' here; known: after, limit, team_id"),
        ("/admin/teams/blue?limit=3", "no parameter 'limit' here; known: none"),
        ("/admin/keys?team_id=blue&team_id=red", "'team_id' comes more than once"),
        ("/admin/log?since=1", "no parameter 'since'"),
    ],
)
async def test_a_parameter_that_would_be_ignored_is_refused(operator, path, named):
    answer = await operator.get(path)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


async def test_a_turn_is_shown_by_any_of_its_ids(operator, log):
    log.record(make_turn(1))
    log.start()
    await log.aclose()

    by_request = await operator.get("/admin/turns/req_000001")

    assert by_request.json()["data"][0]["route"]["served_model"] == "small"
    assert (await operator.get("/admin/turns/chatcmpl-000001")).json() == by_request.json()
    assert (await operator.get("/admin/turns/none")).status_code == 404


async def test_what_was_spent_comes_a_page_at_a_time(operator, log):
    for number, team in enumerate(("blue", "green", "red"), 1):
        log.record(make_turn(number, team_id=team, cost_nusd=number, given_up_nusd=0))
    log.start()
    await log.aclose()
    asked = {"by": "team,model", "limit": 2}

    first = (await operator.get("/admin/spend", params=asked)).json()
    second = await operator.get("/admin/spend", params=asked | {"after": first["next_after"]})

    assert [row["team"] for row in first["data"]] == ["blue", "green"]
    assert [(row["team"], row["cost_usd"]) for row in second.json()["data"]] == [
        ("red", "0.000000003")
    ]
    assert second.json()["next_after"] is None


async def test_what_was_spent_can_be_narrowed(operator, log):
    names = (("blue", scope_digest("blue", "user", "alice")), ("blue", None), ("red", None))
    for number, (team, user) in enumerate(names, 1):
        log.record(make_turn(number, team_id=team, user_digest=user, cost_nusd=10**number))
    log.start()
    await log.aclose()

    asked = {"team": "blue", "user": "alice", "since": "2020-01-01", "by": "team"}
    found = (await operator.get("/admin/spend", params=asked)).json()["data"]

    assert [row["requests"] for row in found] == [1]
    past = (await operator.get("/admin/spend", params={"until": "2020-01-01T00:00:00Z"})).json()
    assert past["data"] == []


@pytest.mark.parametrize(
    "asked",
    [
        {"by": "colour"},
        {"user": "alice"},
        {"after": "blue"},
        {"after": "[1]"},
        {"after": '["a", "b"]'},
        {"colour": "red"},
        {"since": "yesterday"},
        {"limit": "0"},
    ],
)
async def test_spending_that_cannot_be_asked_for_is_refused(operator, asked):
    assert (await operator.get("/admin/spend", params=asked)).status_code == 400
