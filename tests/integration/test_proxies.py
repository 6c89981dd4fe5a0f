"""Providers behind a proxy, which the settings switch on and the environment names."""

from pathlib import Path

import pytest

from tests.fakes.gateway import SMALL, running_gateway
from tests.fakes.upstream import completion, json_answer

HOST = "provider.invalid"  # RFC 6761: no resolver knows it, so only a proxy leads there
SERVER = {"port": 0, "admin_port": 0}
ASKED = {"model": SMALL, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    ("switch", "direct", "status"),
    [
        ({"proxy_from_environment": True}, "", 200),
        ({"proxy_from_environment": True}, HOST, 503),
        ({}, "", 503),
    ],
    ids=["switched on", "a host that is called directly", "by default"],
)
async def test_a_provider_is_called_through_the_proxy_of_the_environment_if_that_is_switched_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    switch: dict[str, bool],
    direct: str,
    status: int,
):
    alpha = {"base_url": f"http://{HOST}/alpha/v1"}
    async with running_gateway(tmp_path, also={"alpha": alpha}, server=SERVER | switch) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        proxy = gateway.settings.providers["beta"].base_url.removesuffix("/beta/v1")
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", direct)
        async with gateway.caller() as http:
            answer = await http.post("/v1/chat/completions", json=ASKED)

    assert answer.status_code == status, answer.text
    assert len(gateway.alpha.requests) == (status == 200)
    if status == 200:
        assert gateway.alpha.last.headers["host"] == HOST
