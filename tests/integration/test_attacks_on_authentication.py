"""No form of a credential and no route lets a stranger in, or has its body read first.

The tables are the applications' own routes, so that a new one cannot be forgotten.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import event

from gateway.access.auth import declared_authentication
from gateway.access.keys import KeyStore
from tests.fakes.endpoints import MODELS, PASSED
from tests.fakes.gateway import SMALL, RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.routes import every_route
from tests.fakes.server import serve
from tests.fakes.upstream import completion, json_answer

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("attacks on authentication"),  # one gateway
]

TOKEN = "the-admin-token-of-this-test"
HUGE = 600_000_000
SIDES = ("public", "admin")
GUESSES = 300
Headers = dict[str, str]


@dataclass(frozen=True)
class Side:
    """An application on a socket of its own.

    Attributes:
        secret: What it lets in.
        calls: Method and path of every route that is not public.
    """

    url: str
    secret: str
    calls: tuple[tuple[str, str], ...]

    async def statuses(
        self, *tried: Headers, params: Mapping[str, str] | None = None
    ) -> set[tuple[str, str, int]]:
        """Call every route with each of these headers; say what was answered."""
        async with httpx2.AsyncClient(
            base_url=self.url, timeout=PATIENCE_S, trust_env=False
        ) as http:
            return {
                (
                    method,
                    path,
                    (await http.request(method, path, headers=each, params=params)).status_code,
                )
                for method, path in self.calls
                for each in tried
            }


def side_of(app: Any, url: str, secret: str) -> Side:
    calls = {
        (method, re.sub(r"\{[^}]*\}", "x", route.path))
        for route in every_route(app)
        if declared_authentication(route) != "public"
        for method in route.methods - {"HEAD"}
    }
    return Side(url, secret, tuple(sorted(calls)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def attacked(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[RunningGateway, dict[str, Side]]]:
    """Both applications of a gateway that has every endpoint."""
    settings: dict[str, Any] = {
        "models": MODELS,
        "passthrough": PASSED,
        "server": {"port": 0, "admin_port": 0, "admin_token": TOKEN},
    }
    async with AsyncExitStack() as stack:
        path = tmp_path_factory.mktemp("attacked")
        gateway = await stack.enter_async_context(running_gateway(path, **settings))
        gateway.alpha.answers = [json_answer(completion())]
        admin_url = await stack.enter_async_context(serve(gateway.app.admin, lifespan="off"))
        public = side_of(gateway.app.public.others, gateway.url, gateway.key)
        yield gateway, {"public": public, "admin": side_of(gateway.app.admin, admin_url, TOKEN)}


@pytest.fixture
def gateway(attacked: Any) -> RunningGateway:
    running: RunningGateway = attacked[0]
    return running


@pytest.fixture
def sides(attacked: Any) -> dict[str, Side]:
    found: dict[str, Side] = attacked[1]
    return found


def forms(secret: str) -> list[Headers]:
    """Send a secret in each of the five forms that are taken."""
    return [
        {"authorization": f"Bearer {secret}"},
        {"authorization": secret},
        {"x-api-key": secret},
        {"api-key": secret},
        {"authorization": "Bearer placeholder", "x-api-key": secret},
    ]


@pytest.mark.parametrize("side", SIDES)
async def test_all_forms_of_the_right_secret_are_let_in_everywhere(sides, side) -> None:
    answers = await sides[side].statuses(*forms(sides[side].secret))
    assert len(sides[side].calls) >= 12
    assert [each for each in answers if each[2] in {401, 403}] == []


def strange(secret: str, other: str, revoked: str) -> Iterator[Headers]:
    """Send what is no secret of this side, in every form and some more."""
    for wrong in (secret[:-1], other, revoked):
        yield from forms(wrong)
    pair = base64.b64encode(f"user:{secret}".encode()).decode()
    yield from (
        {},
        {"authorization": f"Basic {pair}"},
        {"authorization": f"Bearer Bearer {secret}"},
        {"authorization": f"Bearer {secret}, Bearer {secret}"},
        {"proxy-authorization": f"Bearer {secret}"},
        {"cookie": f"authorization={secret}; api-key={secret}"},
        {"x-forwarded-user": "admin", "x-waypost-team": "default"},
    )


@pytest.mark.parametrize("side", SIDES)
async def test_no_form_of_another_secret_is_let_in_anywhere(gateway, sides, side) -> None:
    keys = KeyStore(gateway.engine)
    new = keys.create_key("default", "revoked")
    keys.revoke_key(new.info.id)
    other = sides["admin" if side == "public" else "public"].secret
    tried = strange(sides[side].secret, other, new.secret.get_secret_value())
    answers = await sides[side].statuses(*tried)
    in_the_address = dict.fromkeys(
        ("key", "api_key", "api-key", "access_token"), sides[side].secret
    )
    answers |= await sides[side].statuses({}, params=in_the_address)
    assert {each[2] for each in answers} == {401}


async def status_before_the_body(url: str, call: tuple[str, str], length: str) -> int:
    """Send the head of a request alone, without a secret; return the status that comes back."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (f"{' '.join(call)} HTTP/1.1", f"host: {place.netloc}", "content-type: application/json")
    writer.write("\r\n".join((*head, length, "", "")).encode())
    async with asyncio.timeout(PATIENCE_S):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


@pytest.mark.parametrize("length", [f"content-length: {HUGE}", "transfer-encoding: chunked"])
@pytest.mark.parametrize("side", SIDES)
async def test_no_route_waits_for_the_body_of_a_stranger(sides, side, length) -> None:
    calls, url = sides[side].calls, sides[side].url
    statuses = {call: await status_before_the_body(url, call, length) for call in calls}
    assert {"/v1/messages", "/v1/responses", "/admin/teams"} & {path for _, path in calls}
    assert statuses == dict.fromkeys(calls, 401)


@contextmanager
def counted(gateway: RunningGateway) -> Iterator[list[str]]:
    """Note what the database is asked about keys."""
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        if "keys" in statement:
            asked.append(statement)

    event.listen(gateway.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(gateway.engine, "before_cursor_execute", note)


async def test_a_valid_key_is_served_beside_guesses_whose_work_is_bounded(gateway) -> None:
    known_id = gateway.key.split("-")[1]
    guesses = [f"wp-{number:012x}-AAAA" for number in range(GUESSES)]
    guesses += [f"wp-{known_id}-{number:040x}" for number in range(GUESSES)]
    body = {"model": SMALL, "messages": [{"role": "user", "content": "Say hello."}]}
    served: list[int] = []

    async def serve_on(guessing: asyncio.Task[Any]) -> None:
        async with gateway.caller() as http:
            while not guessing.done() or len(served) < 5:
                answer = await http.post("/v1/chat/completions", json=body)
                served.append(answer.status_code)

    async with gateway.caller() as stranger:
        ask = stranger.get
        with counted(gateway) as asked:
            guessing = asyncio.gather(
                *(ask("/v1/models", headers={"authorization": f"Bearer {g}"}) for g in guesses)
            )
            await serve_on(guessing)  # type: ignore[arg-type]
            refused = await guessing
    assert set(served) == {200}
    assert {answer.status_code for answer in refused} == {401}
    assert len({answer.json()["error"]["message"] for answer in refused}) == 1
    assert len(asked) <= GUESSES / 10
