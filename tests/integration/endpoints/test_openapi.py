"""The OpenAPI document says what callers are served: each route, request, answer and error."""

import asyncio
import os
import re
from typing import Any

import jsonschema_rs
import orjson
import pytest
from click.testing import CliRunner

from gateway.access.auth import declared_authentication
from gateway.access.keys import KeyStore
from gateway.cli import cli
from gateway.endpoints.openapi import DOCUMENT
from gateway.endpoints.public import Feedback
from tests.fakes import messages, responses
from tests.fakes.endpoints import EMBEDDER, PASSED, RERANKER, WRITER, vectors, written
from tests.fakes.gateway import CLAUDE, SMALL
from tests.fakes.node import find_package
from tests.fakes.routes import every_route
from tests.fakes.upstream import anthropic_message, completion, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDERS = ("alpha", "beta")
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
VERSION = {"anthropic-version": "2023-06-01"}
# Calls that are answered: method, path, body, headers.
ANSWERED: list[tuple[str, str, Any, dict[str, str]]] = [
    ("POST", "/v1/chat/completions", CHAT, {}),
    ("POST", "/v1/messages", messages.HELLO, {}),
    ("POST", "/v1/messages", messages.HELLO | {"model": CLAUDE}, {}),
    ("POST", "/v1/messages", messages.AGENT, {}),
    ("POST", "/v1/messages/count_tokens", CHAT, {}),
    ("POST", "/v1/responses", responses.HELLO, {}),
    ("POST", "/v1/responses", responses.HELLO | {"model": CLAUDE}, {}),
    ("POST", "/v1/responses", responses.AGENT, {}),
    ("POST", "/v1/responses/input_tokens", {"input": "Say hello."}, {}),
    ("POST", "/v1/embeddings", {"model": EMBEDDER, "input": ["one", "two"]}, {}),
    ("POST", "/v1/completions", {"model": WRITER, "prompt": "Once"}, {}),
    ("POST", "/v1/rerank", {"model": RERANKER, "query": "a", "documents": ["b", "c"]}, {}),
    ("POST", "/v1/route", CHAT, {}),
    ("GET", "/v1/models", None, {}),
    ("GET", "/v1/models", None, VERSION),
    ("GET", f"/v1/models/{SMALL}", None, {}),
    ("GET", f"/v1/models/{EMBEDDER}", None, {}),
    ("GET", "/v1/models/auto", None, VERSION),
    ("GET", "/health", None, {}),
    ("GET", "/ready", None, {}),
    ("GET", "/openapi.json", None, {}),
]
REFUSED: list[tuple[str, Any]] = [
    ("/v1/chat/completions", {"model": "auto", "messages": []}),
    ("/v1/chat/completions", {"messages": CHAT["messages"]}),
    ("/v1/chat/completions", CHAT | {"stream": "yes"}),
    ("/v1/chat/completions", CHAT | {"waypost": {"unknown": 1}}),
    ("/v1/messages", {"model": "auto", "messages": CHAT["messages"]}),
    ("/v1/messages", messages.HELLO | {"max_tokens": 0}),
    ("/v1/messages/count_tokens", {"model": "auto", "messages": []}),
    ("/v1/responses", {"model": "auto"}),
    ("/v1/responses", responses.HELLO | {"max_output_tokens": 0}),
    ("/v1/responses/input_tokens", {"input": []}),
    ("/v1/embeddings", {"model": EMBEDDER, "input": []}),
    ("/v1/completions", {"model": WRITER, "prompt": "Once", "n": 0}),
    ("/v1/rerank", {"model": RERANKER, "query": "a", "documents": []}),
    ("/v1/feedback", {"id": "", "score": 1}),
    ("/v1/feedback", {"id": "x", "score": 2}),
    ("/v1/feedback", {"id": "x", "score": 1, "unknown": 1}),
]


@pytest.fixture(scope="module")
def document() -> Any:
    return orjson.loads(DOCUMENT.read_bytes())


@pytest.fixture(autouse=True)
def answers(gateway):
    """Every upstream answers what the endpoint asks for."""
    gateway.alpha.answers = [json_answer(completion())]
    gateway.gamma.answers = [json_answer(anthropic_message())]


def follows(document: Any, schema: Any, value: Any) -> bool:
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return jsonschema_rs.is_valid(whole | {"components": document["components"]}, value)


def operation(document: Any, method: str, path: str) -> Any:
    """Find the operation that describes a call."""
    found = [
        methods[method.lower()]
        for template, methods in document["paths"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in methods
    ]
    exact = document["paths"].get(path, {}).get(method.lower())
    return exact or found[0]


def asked_schema(operation: Any) -> Any:
    return operation["requestBody"]["content"]["application/json"]["schema"]


def answer_schema(document: Any, operation: Any, status: int) -> Any:
    described = operation["responses"].get(str(status))
    described = described or operation["responses"][f"{status // 100}XX"]
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rpartition("/")[2]]
    return described["content"]["application/json"]["schema"]


def toml_of(table: Any) -> str:
    return "\n".join(f"{name} = {orjson.dumps(value).decode()}" for name, value in table.items())


def calls_of(paths: Any) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


async def test_every_public_route_is_described_and_no_other(gateway, http):
    served = {
        (method, re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path))
        for route in every_route(gateway.app.public.others)
        for method in route.methods - {"HEAD"}
    }

    described = calls_of((await http.get("/openapi.json")).json()["paths"])

    assert described == served
    assert len(served) > 15 + len(PASSED)


async def test_what_needs_no_key_is_described_so(gateway, document):
    public = {
        route.path
        for route in every_route(gateway.app.public.others)
        if declared_authentication(route) == "public"
    }

    assert public == {
        path
        for path, methods in document["paths"].items()
        for described in methods.values()
        if described.get("security") == []
    }


@pytest.mark.parametrize(("method", "path", "body", "headers"), ANSWERED)
async def test_a_request_and_its_answer_follow_their_schemas(
    gateway, http, document, method, path, body, headers
):
    ranks = {"results": [{"index": 1, "relevance_score": 0.5}]}
    special = {
        "/v1/embeddings": vectors(2),
        "/v1/completions": json_answer(written("Once")),
        "/v1/rerank": json_answer(ranks),
    }
    gateway.alpha.answers = [special.get(path, gateway.alpha.answers[0])]

    answer = await http.request(method, path, json=body, headers=headers)

    described = operation(document, method, path)
    assert answer.status_code == 200, answer.text
    assert body is None or follows(document, asked_schema(described), body)
    assert follows(document, answer_schema(document, described, 200), answer.json())


async def test_stored_responses_follow_their_schemas(gateway, document):
    store = KeyStore(gateway.engine)
    store.create_team("keepers", stores_responses=True)
    secret = store.create_key("keepers", "one").secret.get_secret_value()
    async with gateway.caller(secret) as keeper:
        made = await keeper.post("/v1/responses", json=responses.HELLO)
        one = f"/v1/responses/{made.json()['id']}"
        calls = (("GET", one), ("GET", f"{one}/input_items"), ("DELETE", one))
        for method, path in calls:
            answer = await keeper.request(method, path)

            assert answer.status_code == 200, answer.text
            schema = answer_schema(document, operation(document, method, path), 200)
            assert follows(document, schema, answer.json()), answer.text


async def test_conversations_follow_their_schemas(gateway, document):
    store = KeyStore(gateway.engine)
    store.create_team("talkers", stores_responses=True)
    secret = store.create_key("talkers", "one").secret.get_secret_value()
    item = {"role": "user", "content": "Say hello."}
    async with gateway.caller(secret) as talker:
        begun = {"items": [item], "metadata": {"a": "b"}}
        one = (
            f"/v1/conversations/{(await talker.post('/v1/conversations', json=begun)).json()['id']}"
        )
        added = await talker.post(f"{one}/items", json={"items": [item]})
        named = f"{one}/items/{added.json()['first_id']}"
        calls: tuple[tuple[str, str, Any], ...] = (
            ("POST", "/v1/conversations", begun),
            ("GET", one, None),
            ("POST", one, {"metadata": {}}),
            ("POST", f"{one}/items", {"items": [item]}),
            ("GET", f"{one}/items", None),
            ("GET", named, None),
            ("DELETE", named, None),
            ("DELETE", one, None),
        )
        for method, path, body in calls:
            answer = await talker.request(method, path, json=body)

            described = operation(document, method, path)
            assert answer.status_code == 200, answer.text
            assert body is None or follows(document, asked_schema(described), body)
            assert follows(document, answer_schema(document, described, 200), answer.json())


async def test_a_grade_follows_its_schema(http, document):
    answer = await http.post("/v1/chat/completions", json=CHAT)
    grade = {"id": answer.json()["waypost"]["decision_id"], "score": 1}

    graded = await http.post("/v1/feedback", json=grade)

    described = operation(document, "POST", "/v1/feedback")
    assert follows(document, asked_schema(described), grade)
    assert follows(document, answer_schema(document, described, 202), graded.json())


@pytest.mark.parametrize(("path", "body"), REFUSED)
async def test_what_a_schema_rules_out_is_refused_in_the_form_that_is_described(
    http, document, path, body
):
    described = operation(document, "POST", path)

    answer = await http.post(path, json=body)

    assert not follows(document, asked_schema(described), body)
    assert answer.status_code == 400
    assert follows(document, answer_schema(document, described, 400), answer.json())


async def test_the_options_of_routing_are_those_that_are_taken(http, document):
    refused = await http.post("/v1/chat/completions", json=CHAT | {"waypost": {"unknown": 1}})
    known = refused.json()["error"]["message"].partition("known: ")[2].rstrip(".").split(", ")

    assert set(document["components"]["schemas"]["RouteOptions"]["properties"]) == set(known)


async def test_the_fields_of_a_grade_are_those_that_are_taken(document):
    schema, described = Feedback.model_json_schema(), document["components"]["schemas"]["Feedback"]

    assert described["properties"].keys() == schema["properties"].keys()
    assert described["required"] == schema["required"]


async def test_every_schema_is_used(document):
    used = set(re.findall(r"#/components/schemas/(\w+)", orjson.dumps(document).decode()))

    assert used == set(document["components"]["schemas"])


async def test_a_team_is_shown_only_what_it_may_call(gateway, http):
    keys = KeyStore(gateway.engine)
    keys.create_team("others")
    key = keys.create_key("others", "other").secret.get_secret_value()
    async with gateway.caller(key) as other:
        shown = (await other.get("/openapi.json")).json()["paths"]

    everything = (await http.get("/openapi.json")).json()["paths"]
    assert everything.keys() - shown.keys() == {"/v1/files", "/v1/files/{file_id}"}


async def test_a_stranger_is_not_told(gateway):
    async with gateway.caller("wp-000000000000-AAAA") as stranger:
        assert (await stranger.get("/openapi.json")).status_code == 401


async def test_the_command_prints_what_is_served(http, tmp_path):
    file = tmp_path / "waypost.toml"
    tables = [f"[passthrough.{name}]\n{toml_of(table)}" for name, table in PASSED.items()]
    providers = [f'[providers.{name}]\nbase_url = "http://127.0.0.1:1/v1"' for name in PROVIDERS]
    file.write_text("\n".join([*providers, *tables]))

    printed = CliRunner().invoke(cli, ["openapi", "--config", str(file)], catch_exceptions=False)

    assert orjson.loads(printed.stdout) == (await http.get("/openapi.json")).json()


async def test_a_public_ruleset_finds_no_error(http, tmp_path):
    node, folder = find_package("@redocly/cli")
    file = tmp_path / "openapi.json"
    file.write_bytes((await http.get("/openapi.json")).content)
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    linting = await asyncio.create_subprocess_exec(
        *(node, str(folder / "bin" / "cli.js"), "lint", "--extends=recommended", str(file)),
        env={**os.environ, **quiet},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await linting.communicate()

    assert linting.returncode == 0, said.decode()
