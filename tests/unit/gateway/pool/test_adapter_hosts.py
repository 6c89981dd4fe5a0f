from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.pool.adapter_hosts import AdapterHost, HostRefused, VllmServer
from gateway.pool.announcements import AnnouncementFile
from router_models.artifacts.adapter import load
from router_models.errors import ArtifactRejected
from tests.fakes.adapters import sealed_adapter

ADAPTER = load(sealed_adapter())
NOTHING: dict[str, Any] = {"data": []}


def server(answer: Callable[[httpx2.Request], httpx2.Response]) -> VllmServer:
    transport = httpx2.MockTransport(answer)
    return VllmServer(httpx2.Client(base_url="http://vllm/v1/", transport=transport))


def saying(status: int, **body: Any) -> VllmServer:
    """A server that lists nothing and says the same to all else."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        is_list = request.url.path == "/v1/models"
        return httpx2.Response(200, json=NOTHING) if is_list else httpx2.Response(status, **body)

    return server(answer)


@pytest.mark.parametrize("body", [{"json": {"models": []}}, {"text": "hello"}, {"json": []}])
def test_a_server_that_lists_no_models_is_no_vllm(body):
    with pytest.raises(HostRefused, match="does not list its models"):
        server(lambda _: httpx2.Response(200, **body)).names()


def test_does_not_believe_that_an_adapter_is_loaded_unless_it_is_served():
    with pytest.raises(HostRefused, match="does not serve it"):
        saying(200, text="Success").load("lora", "/adapters/lora")


def test_what_is_not_served_need_not_be_unloaded():
    saying(500).unload("lora")


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, {"json": {"error": {"message": "too wide"}}}, "400: too wide"),
        (400, {"json": {"message": "too wide"}}, "400: too wide"),
        (404, {"json": {"message": "No adapter found"}}, "404: No adapter found"),
        (502, {"text": "Bad Gateway"}, "502: Bad Gateway"),
        (500, {"json": ["?"]}, "500: no reason given"),
        (401, {"json": {"error": "Unauthorized"}}, "401: no reason given"),
        (404, {"json": {"detail": "Not Found"}}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ],
)
def test_says_what_the_server_says(status, body, message):
    with pytest.raises(HostRefused, match=message):
        saying(status, **body).load("lora", "/adapters/lora")


def test_an_adapter_that_was_loaded_before_stays_when_it_cannot_be_announced(tmp_path: Path):
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(200, json={"data": [{"id": ADAPTER.version}]})

    announced = AnnouncementFile(tmp_path)
    announced.path.write_text("{")
    host = AdapterHost(server(answer), tmp_path / "served", "/served", announced, lambda: None)

    with pytest.raises(ArtifactRejected):
        host.announce(ADAPTER, "maths", "base")
    assert set(asked) == {"/v1/models"}


def test_waits_for_the_gateways_before_it_unloads(tmp_path: Path):
    served, order = [ADAPTER.version], []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/unload_lora_adapter":
            order.append("unload")
        return httpx2.Response(200, json={"data": [{"id": name} for name in served]})

    def wait() -> None:
        order.append(f"wait with {len(announced.read())} announced")

    announced = AnnouncementFile(tmp_path)
    host = AdapterHost(server(answer), tmp_path / "served", "/served", announced, wait)
    host.announce(ADAPTER, "maths", "base")
    host.withdraw("maths")

    assert order == ["wait with 0 announced", "unload"]
