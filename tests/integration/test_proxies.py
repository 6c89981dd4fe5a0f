"""Providers behind a proxy, which the settings switch on and the environment names."""

import asyncio
import os
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from federation.deployment.certificates import CertificateFolder
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


CHILD = """
import asyncio, sys
from gateway.providers.http import HttpClient

async def main():
    http = HttpClient.open(trust_env=True)
    times = {"connect_timeout_s": 60.0, "timeout_s": 60.0}
    response = await http.request("POST", sys.argv[1], headers={}, body=b"", **times)
    await http.aclose()
    print(response.status)

asyncio.run(main())
"""


async def test_tls_goes_through_a_proxy_that_sees_no_more_than_the_name(tmp_path: Path):
    folder = CertificateFolder(tmp_path)
    folder.issue_server([HOST], datetime.now(UTC))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder.server, folder.server_key)
    asked: list[bytes] = []

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what a proxy does that is told CONNECT; the provider is behind the same connection."""
        asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.start_tls(context)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    proxy = await asyncio.start_server(connect, "127.0.0.1", 0)
    async with proxy:
        named = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        trusted = {"HTTPS_PROXY": named, "SSL_CERT_FILE": str(folder.authority), "NO_PROXY": ""}
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CHILD, f"https://{HOST}/v1"),
            env=os.environ | trusted,
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await child.communicate()

    assert printed == b"204\n"
    assert asked == [f"CONNECT {HOST}:443 HTTP/1.1".encode()]
