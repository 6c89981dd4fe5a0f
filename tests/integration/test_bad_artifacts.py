"""Router artefacts that cannot be used are refused while the one that serves goes on serving."""

import asyncio
import re

import httpx2
import pytest

from gateway.artifacts.store import ACTIVE_FILE, ArtifactStore
from gateway.routing.encoders import load_encoder
from router_models.artifacts.artifact import read_manifest
from tests.fakes.artifacts import router_artifact
from tests.fakes.gateway import LARGE, SMALL, RunningGateway, router_for, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import completion, json_answer

BODY = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}
ENCODER = load_encoder("static")
GOOD = router_for(ENCODER)
OTHER = router_for(ENCODER, best=LARGE, seed=1)


def damaged(artifact: bytes) -> bytes:
    """Flip a bit of the arrays."""
    return artifact[:-10] + bytes([artifact[-10] ^ 1]) + artifact[-9:]


async def metric(gateway: RunningGateway, name: str) -> float:
    """Read one figure as Prometheus would."""
    transport = httpx2.ASGITransport(gateway.app.admin)
    async with httpx2.AsyncClient(transport=transport, base_url="http://admin") as scraper:
        page = (await scraper.get("/metrics")).text
    found = re.search(rf"^waypost_{name} (\S+)$", page, re.MULTILINE)
    assert found is not None, page
    return float(found[1])


async def until_rejected(gateway: RunningGateway, count: int) -> None:
    """Wait until the gateway has refused `count` artefacts."""
    async with asyncio.timeout(PATIENCE_S):
        while await metric(gateway, "router_artifacts_rejected_total") < count:
            pass


@pytest.fixture
async def swapping(tmp_path):
    async with running_gateway(tmp_path, router=GOOD) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        gateway.beta.answers = [json_answer(completion())]
        yield gateway


@pytest.mark.parametrize(
    "artifact",
    [
        damaged(OTHER),
        OTHER[: len(OTHER) // 2],
        b"",
        b"not an artefact",
        b"\x00" * 1000,
        b"\xff" * 8 + OTHER[8:],
    ],
    ids=["damaged", "truncated", "empty", "text", "zeros", "giant_header"],
)
async def test_a_corrupt_artefact_is_refused_and_the_old_one_serves(swapping, artifact):
    version = read_manifest(OTHER).version
    swapping.store.path(version).write_bytes(artifact)
    (swapping.store.folder / ACTIVE_FILE).write_text(f"{version}\n")

    await until_rejected(swapping, 1)
    async with swapping.caller() as http:
        response = await http.post("/v1/chat/completions", json=BODY)

    assert response.headers["x-waypost-router-version"] == read_manifest(GOOD).version
    assert response.headers["x-waypost-route-reason"] == "router"
    assert await metric(swapping, "router_loaded") == 1


async def test_an_artefact_of_another_encoder_is_refused(swapping):
    foreign = swapping.store.put(router_artifact())
    swapping.store.activate(foreign.version)

    await until_rejected(swapping, 1)
    async with swapping.caller() as http:
        response = await http.post("/v1/chat/completions", json=BODY)
        pinned = await http.post(
            "/v1/chat/completions",
            json=BODY,
            headers={"x-waypost-router-version": foreign.version},
        )

    assert response.headers["x-waypost-router-version"] == read_manifest(GOOD).version
    assert pinned.status_code == 400
    assert "encoder" in pinned.json()["error"]["message"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "kmeans-20260101-0123456789ab", "\x00"])
async def test_a_name_that_leads_nowhere_is_refused(swapping, name):
    (swapping.store.folder / ACTIVE_FILE).write_text(name)

    await until_rejected(swapping, 1)
    async with swapping.caller() as http:
        response = await http.post("/v1/chat/completions", json=BODY)

    assert response.headers["x-waypost-router-version"] == read_manifest(GOOD).version


async def test_an_artefact_that_was_mended_is_taken(swapping):
    version = read_manifest(OTHER).version
    path = swapping.store.path(version)
    path.write_bytes(damaged(OTHER))
    (swapping.store.folder / ACTIVE_FILE).write_text(f"{version}\n")
    await until_rejected(swapping, 1)

    path.write_bytes(OTHER)

    async with swapping.caller() as http:
        response = await http.post("/v1/chat/completions", json=BODY)
        async with asyncio.timeout(PATIENCE_S):
            while response.headers["x-waypost-router-version"] != version:
                response = await http.post("/v1/chat/completions", json=BODY)
    assert response.headers["x-waypost-model"] == LARGE


async def test_a_router_that_knows_none_of_the_models_leaves_the_choice_to_the_default(tmp_path):
    stranger = router_artifact(encoder=ENCODER, models=("gpt-x", "gpt-y"))
    async with running_gateway(tmp_path, router=stranger) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [json_answer(completion())]
        response = await http.post("/v1/chat/completions", json=BODY)

    assert response.headers["x-waypost-route-reason"] == "router_missing"
    assert response.headers["x-waypost-model"] == SMALL


async def test_a_gateway_starts_with_a_corrupt_artefact_and_serves_its_default_model(tmp_path):
    store = ArtifactStore(tmp_path / "routers")
    version = store.activate(store.put(GOOD).version).version
    store.path(version).write_bytes(damaged(GOOD))

    async with running_gateway(tmp_path, keeps_store=True) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [json_answer(completion())]
        response = await http.post("/v1/chat/completions", json=BODY)
        rejected = await metric(gateway, "router_artifacts_rejected_total")

    assert response.headers["x-waypost-route-reason"] == "router_missing"
    assert rejected == 1


async def test_a_gateway_whose_store_is_empty_serves_its_default_model(tmp_path):
    async with running_gateway(tmp_path, keeps_store=True) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [json_answer(completion())]
        response = await http.post("/v1/chat/completions", json=BODY)

    assert response.headers["x-waypost-route-reason"] == "router_missing"
    assert response.headers["x-waypost-model"] == SMALL


async def test_without_a_router_auto_is_routed_by_the_prior_and_explores(tmp_path):
    routing = {"exploration": {"kind": "epsilon", "epsilon": 0.5}, "encoder": "static"}
    async with (
        running_gateway(tmp_path, keeps_store=True, routing=routing) as gateway,
        gateway.caller() as http,
    ):
        found = [await http.post("/v1/chat/completions", json=BODY) for _ in range(30)]
        explained = (await http.post("/v1/route", json=BODY)).json()

    headers = [response.headers for response in found]
    assert {each["x-waypost-router-version"][:6] for each in headers} == {"prior-"}
    assert {each["x-waypost-route-reason"] for each in headers} == {"router", "explored"}
    assert len({each["x-waypost-propensity"] for each in headers}) == 2
    assert len({each["x-waypost-model"] for each in headers}) > 1
    assert all(candidate["quality"] is not None for candidate in explained["candidates"])
