"""What a caller with a key may try: odd limits, huge bodies, bombs, other tenants' answers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from sqlalchemy import func, select

from gateway.access.keys import KeyStore
from migrations.tables import GRADES, SETTLEMENTS, TURNS
from tests.fakes.budgets import budget
from tests.fakes.gateway import SMALL, RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.postgres import Postgres
from tests.fakes.scrape import scrape
from tests.fakes.turns import until
from tests.fakes.upstream import completion, error_answer, json_answer

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("attacks by callers"),  # one gateway
]

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello."}]
BODY: dict[str, Any] = {"model": SMALL, "messages": HELLO}
SETTINGS: dict[str, Any] = {
    "server": {"port": 0, "admin_port": 0},
    "keys": {"staleness_s": 0.01, "read_timeout_s": PATIENCE_S},
    "budgets": {"definitions_poll_s": 0.01},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path_factory.mktemp("attacked"), **SETTINGS) as running:
        KeyStore(running.engine).update_team("default", trains_reasoner=True)
        budget(running.engine, 10**9, team_id="default", scope="key", measure="tokens")
        await until(lambda: running.app.budgets.book.revision > 0)
        yield running


@pytest.fixture
def gateway(attacked: RunningGateway) -> RunningGateway:
    """The gateway, with upstreams that answer at once and have seen nothing."""
    attacked.upstreams.reset()
    attacked.alpha.answers = [json_answer(completion())]
    return attacked


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n"])
@pytest.mark.parametrize(
    "value", [-1, -0.5, 0, 1.5, True, False, None, "9", [], {}, 2**31, 2**63, 1e308, 10**30]
)
async def test_no_limit_makes_an_answer_free_or_a_charge_negative(gateway, field, value):
    raw = json.dumps(BODY | {field: value})  # orjson writes no integer beyond 64 bits
    async with gateway.caller() as http:
        answer = await http.post(CHAT, content=raw)

    request_id = answer.headers["x-request-id"]
    await gateway.turn(request_id)
    with gateway.engine.connect() as connection:
        settled = SETTLEMENTS.c.request_id == request_id
        charged = connection.scalars(select(SETTLEMENTS.c.charged_tokens).where(settled)).all()
    assert (answer.status_code, charged) in [(200, [12]), (400, []), (400, [0]), (429, [])]
    assert (answer.status_code == 200) == bool(gateway.alpha.requests)


async def test_first_calls_of_an_unknown_user_at_once_do_not_pass_its_cap(gateway):
    cap, each = 500, BODY | {"user": "never-seen", "max_tokens": 100}
    budget(gateway.engine, cap, team_id="default", scope="user", measure="tokens")
    book = gateway.app.budgets.book
    before = book.revision
    await until(lambda: book.revision > before)
    usage = {"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120}
    gateway.alpha.answers = [json_answer(completion(usage=usage))]

    async with gateway.caller() as http:
        answers = await asyncio.gather(*(http.post(CHAT, json=each) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200, 429}
    assert 0 < len(gateway.alpha.requests) * 120 <= cap


HOSTILE_BODIES = {
    "half a character": b'{"model":"small","messages":[{"role":"user","content":"\\ud800"}]}',
    "half in a name": b'{"model":"small\\udfff","messages":[{"role":"user","content":"x"}]}',
    "not a number": b'{"model":"small","messages":[{"role":"user","content":"x"}],"seed":NaN}',
    "infinite": b'{"model":"small","messages":[{"role":"user","content":"x"}],"top_p":-Infinity}',
    "beyond all": b'{"model":"small","messages":[{"role":"user","content":"x"}],"top_p":1e999}',
    "many digits": b'{"model":"small","messages":[{"role":"user","content":"x"}],"seed":%b}'
    % (b"9" * 1_000_000),
    "300,000 keys": b'{"model":"small","messages":[{"role":"user","content":"x"}],%b}'
    % b",".join(b'"k%d":0' % n for n in range(300_000)),
    "one key 300,000 times": b'{"model":"small","messages":[{"role":"user","content":"x"}]%b}'
    % (b',"k":0' * 300_000),
    "19 MB of words": orjson.dumps(
        BODY | {"messages": [{"role": "user", "content": "word " * 3_800_000}]}
    ),
    "two bodies": orjson.dumps(BODY) * 2,
    "comment": b'{"model":"small",/**/"messages":[{"role":"user","content":"x"}]}',
    "utf-16": orjson.dumps(BODY).decode().encode("utf-16"),
}


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
@pytest.mark.parametrize("name", HOSTILE_BODIES)
async def test_no_body_makes_the_gateway_fail_or_stops_it_for_others(gateway, name):
    async with gateway.caller() as http:
        answer = await http.post(CHAT, content=HOSTILE_BODIES[name])
        after = await http.post(CHAT, json=BODY)

    assert answer.status_code in {200, 400, 404, 413}
    assert after.status_code == 200


BOMBS: list[dict[str, Any]] = [
    {"kind": "regex", "pattern": "(a+)+$"},
    {"kind": "regex", "pattern": "(a|aa)*b"},
    {"kind": "regex", "pattern": "(.*a){25}"},
    {"kind": "regex", "pattern": "(((a{1,100}){1,100}){1,100}){1,100}"},
    {"kind": "regex", "pattern": "(?=a)" * 5_000},
    {"kind": "regex", "pattern": "(" * 10_000 + ")" * 10_000},
    {"kind": "math", "reference": "9^9^9^9^9"},
    {"kind": "math", "reference": "(" * 10_000 + "1" + ")" * 10_000},
    {"kind": "math", "reference": "9" * 100_000},
    {"kind": "numeric", "reference": 1e308},
    {"kind": "choice", "reference": "0", "choices": [str(n) for n in range(20_000)]},
    {"kind": "exact", "reference": ["x" * 1_000] * 1_000},
    {"kind": "json_schema", "schema": {"pattern": "(a+)+$", "type": "string"}},
    {"kind": "json_schema", "schema": {"$ref": "#"}},
    {"kind": "json_schema", "schema": {"$ref": "http://127.0.0.1:9/schema"}},
    {"kind": "\x00"},
    {},
]
MOST_S = 5.0
"""That a verifier may take, on a busy machine too; a bomb that goes off takes minutes."""


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: str(bomb)[:40])
async def test_no_verifier_keeps_the_gateway_busy(gateway, bomb):
    gateway.alpha.answers = [json_answer(completion("a" * 5_000 + "! 9^{9^{9^{9^9}}}"))]
    async with gateway.caller() as http:
        asked = await http.post(CHAT, json=BODY)
        begun_s = time.monotonic()
        graded = await http.post(
            "/v1/feedback", json={"id": asked.headers["x-request-id"], "verifier": bomb}
        )
        took_s = time.monotonic() - begun_s

    assert graded.status_code in {202, 400}
    assert took_s < MOST_S


def grades(gateway: RunningGateway) -> int:
    """Count the grades that callers sent."""
    sent = select(func.count()).where(GRADES.c.source == "feedback")
    with gateway.engine.connect() as connection:
        return connection.scalar(sent) or 0


@pytest.fixture(scope="module")
def neighbour(attacked: RunningGateway) -> str:
    """A key of another team."""
    store = KeyStore(attacked.engine)
    store.create_team("neighbour")
    return store.create_key("neighbour", "spy").secret.get_secret_value()


async def test_no_id_of_another_teams_answer_can_be_graded(gateway, neighbour):
    async with gateway.caller() as http:
        asked = await http.post(CHAT, json=BODY)
    await gateway.turn(asked.headers["x-request-id"])
    told = asked.json()["waypost"]
    ids = {told["request_id"], told["decision_id"], asked.json()["id"]}
    before = grades(gateway)
    async with gateway.caller(neighbour) as http:
        answers = [await http.post("/v1/feedback", json={"id": i, "score": 0}) for i in ids]

    assert {answer.status_code for answer in answers} == {404}
    assert grades(gateway) == before


@pytest.mark.parametrize(
    "name",
    ["' OR 1=1 --", "%", "_", "*", "req_%", "'; DROP TABLE turns; --", "\\", "{}", "\x00", "é"],
)
async def test_an_id_is_a_value_and_never_a_part_of_a_query(gateway, neighbour, name):
    async with gateway.caller() as http:
        await http.post(CHAT, json=BODY)
    before = grades(gateway)
    async with gateway.caller(neighbour) as http:
        graded = await http.post("/v1/feedback", json={"id": name, "score": 0})

    assert graded.status_code in {400, 404}
    assert grades(gateway) == before


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "%00", "small%00", "..."]
)
async def test_no_name_of_a_model_or_router_leads_to_a_file(gateway, name):
    async with gateway.caller() as http:
        shown = await http.get(f"/v1/models/{name}")
        pinned = BODY | {"model": "auto", "waypost": {"router_version": name}}
        asked = await http.post(CHAT, json=pinned)

    assert (shown.status_code, asked.status_code) == (404, 400)
    assert "root:" not in shown.text + asked.text


async def test_names_that_callers_invent_make_no_series(gateway):
    async def send(names: range) -> None:
        async with gateway.caller() as http:
            for n in names:
                await http.post(CHAT, json=BODY | {"model": f"invented-{n}"})
                await http.get(f"/v1/models/invented-{n}")
                await http.get(f"/invented/{n}")
                await http.request(f"INVENT{n}", "/v1/models")

    await send(range(1))
    before = (await scrape(gateway)).series
    await send(range(1, 20))

    assert (await scrape(gateway)).series == before


async def test_postgres_takes_what_holds_the_character_that_it_cannot_keep(
    postgres: Postgres, tmp_path: Path
):
    nul = "a\x00b"
    fields = {"user": nul, "metadata": {"job": nul}, "waypost": {"task": nul}}
    body = BODY | {"messages": [{"role": "user", "content": nul}]} | fields
    settings = SETTINGS | {"database": {"url": postgres.new_database()}}
    async with running_gateway(tmp_path, **settings) as gateway, gateway.caller() as http:
        KeyStore(gateway.engine).update_team("default", logs_text=True, trains_reasoner=True)
        await asyncio.sleep(0.05)
        gateway.alpha.answers = [
            json_answer(completion(nul, id=nul)),
            error_answer(500, nul, code=nul),
        ]
        whole = await http.post(CHAT, json=body)
        failed = await http.post(CHAT, json=body)
        for answer in (whole, failed):
            await gateway.turn(answer.headers["x-request-id"])
        request_id = whole.headers["x-request-id"]
        refused = [
            await http.post("/v1/feedback", json=grade)
            for grade in (
                {"id": request_id, "score": 1, "comment": nul},
                {"id": nul, "score": 1},
            )
        ]
        graded = await http.post("/v1/feedback", json={"id": request_id, "score": 1})
        await until(lambda: grades(gateway) == 1)
        with gateway.engine.connect() as connection:
            rows = connection.scalar(select(func.count()).select_from(TURNS))

    assert (whole.status_code, failed.status_code, graded.status_code) == (200, 503, 202)
    assert [answer.status_code for answer in refused] == [400, 400]
    assert rows == 2
