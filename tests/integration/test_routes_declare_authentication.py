"""Every route of both applications says whom it lets in, and does so."""

import re
from typing import Any

import httpx2
import pytest

from gateway.access.auth import declared_authentication
from tests.fakes.gateway import RunningGateway
from tests.fakes.routes import every_route

pytestmark = pytest.mark.asyncio(loop_scope="session")

PUBLIC = {"/health", "/ready", "/metrics"}


@pytest.fixture
def applications(gateway: RunningGateway) -> dict[str, Any]:
    return {"public": gateway.app.public.others, "admin": gateway.app.admin}


@pytest.mark.parametrize("side", ["public", "admin"])
async def test_every_route_declares_its_authentication(applications, side):
    routes = list(every_route(applications[side]))

    silent = [route.path for route in routes if declared_authentication(route) is None]

    assert len(routes) >= 7
    assert silent == []


@pytest.mark.parametrize("side", ["public", "admin"])
async def test_only_health_and_metrics_are_public(applications, side):
    routes = every_route(applications[side])

    public = {route.path for route in routes if declared_authentication(route) == "public"}

    assert public <= PUBLIC


@pytest.mark.parametrize("side", ["public", "admin"])
@pytest.mark.parametrize("credential", [None, "Bearer wp-000000000000-AAAA", "Bearer"])
async def test_every_other_route_refuses_a_stranger(applications, side, credential):
    closed = [
        (method, re.sub(r"\{[^}]*\}", "x", route.path))
        for route in every_route(applications[side])
        if declared_authentication(route) != "public"
        for method in route.methods - {"HEAD"}
    ]
    headers = {} if credential is None else {"authorization": credential}
    transport = httpx2.ASGITransport(applications[side])
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as stranger:
        answers = {
            (method, path): await stranger.request(method, path, headers=headers, json={})
            for method, path in closed
        }

    assert len(closed) >= 5
    assert {call: answer.status_code for call, answer in answers.items()} == dict.fromkeys(
        closed, 401
    )
    codes = {answer.json()["error"]["code"] for answer in answers.values()}
    assert codes == {"invalid_api_key"}


async def test_the_chat_endpoint_is_among_the_routes(applications):
    paths = {route.path for route in every_route(applications["public"])}

    assert {"/v1/chat/completions", "/v1/models", "/v1/route", "/v1/feedback"} <= paths
