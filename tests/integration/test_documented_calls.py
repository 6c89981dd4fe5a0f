"""Every HTTP call that the documentation shows is a route, and every route is in the reference."""

import re
from typing import Any

import pytest

from tests.fakes.gateway import RunningGateway
from tests.fakes.pages import ROOT, command_lines, inline_code
from tests.fakes.routes import every_route

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def routes(gateway: RunningGateway) -> list[Any]:
    return [*every_route(gateway.app.public.others), *every_route(gateway.app.admin)]


def is_served(routes: list[Any], method: str, path: str) -> bool:
    return any(
        method in route.methods
        and (path == route.path or route.path_regex.match(path.partition("?")[0]))
        for route in routes
    )


async def test_every_curl_calls_a_route(routes):
    calls = []
    for place, words in command_lines():
        if words[0] == "curl":
            (path,) = re.findall(r"(?:https?://[^/ ]+|\$\w+)(/\S+)", " ".join(words))
            method = words[words.index("-X") + 1] if "-X" in words else "GET"
            calls.append((place, "POST" if "-d" in words else method, path))

    assert len(calls) >= 5
    assert [call for call in calls if not is_served(routes, *call[1:])] == []


async def test_every_call_that_a_sentence_names_is_a_route(routes):
    calls = {
        (place, *code.split()[:2])
        for place, code in inline_code()
        if re.match(r"(GET|POST|PATCH|PUT|DELETE) /", code)
    }

    assert len(calls) > 20
    assert [call for call in calls if not is_served(routes, *call[1:])] == []


async def test_every_route_is_in_the_reference(routes):
    pages = ("http-api.md", "responses-api.md", "admin-api.md")
    text = "".join((ROOT / "docs" / "reference" / page).read_text() for page in pages)

    documented = {re.sub(r"\{\w+(:\w+)?\}", "{}", path) for path in re.findall(r"/[\w/{}.]+", text)}
    served = {re.sub(r"\{\w+(:\w+)?\}", "{}", route.path) for route in routes}
    assert served - documented == set()
