"""TLS to upstreams, and proxies on the way to them, on real sockets."""

import asyncio
import ssl
from datetime import UTC, datetime

import pytest

from federation.deployment.certificates import CertificateFolder
from gateway.providers.exchange import ConnectFailed, NotTrusted
from gateway.providers.http import HttpClient
from tests.fakes.patience import PATIENCE_S
from tests.fakes.raw_servers import SHORT, answering, get, serving, whole


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFolder:
    folder = CertificateFolder(tmp_path_factory.mktemp("certificates"))
    folder.issue_server(["upstream.example"], datetime.now(UTC))
    return folder


def secured(folder: CertificateFolder) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder.server, folder.server_key)
    return context


async def test_a_certificate_of_another_host_is_not_trusted(
    certificates: CertificateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    http = HttpClient.open()
    async with serving(answering(SHORT), secured(certificates)) as port:
        with pytest.raises(NotTrusted, match=r"127\.0\.0\.1"):
            await get(http, f"https://127.0.0.1:{port}")
    await http.aclose()


class ForwardProxy:
    """A proxy that keeps what it was asked, and takes all hosts for 127.0.0.1."""

    def __init__(self, refusal: bytes = b"") -> None:
        self.refusal = refusal
        self.asked: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        method, target, _ = head.split(None, 2)
        if self.refusal or method != "CONNECT":
            writer.write(self.refusal or SHORT)
            return
        port = int(target.rpartition(":")[2])
        there_reader, there = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pumped(reader, there), _pumped(there_reader, writer))


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_a_proxy_is_told_whole_addresses_and_who_asks(monkeypatch) -> None:
    proxy, http = ForwardProxy(), HttpClient.open(trust_env=True)
    async with serving(proxy) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@127.0.0.1:{port}")
        answer = await get(http, "http://upstream.invalid/v1?x=1")
        assert await answer.read(10, PATIENCE_S) == b"hi"
    assert proxy.asked[0].startswith("GET http://upstream.invalid/v1?x=1 HTTP/1.1\r\n")
    assert "proxy-authorization: Basic bWU6c2VjcmV0\r\n" in proxy.asked[0]
    await http.aclose()


async def test_tls_goes_through_a_tunnel_and_is_verified(certificates, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    proxy, http = ForwardProxy(), HttpClient.open(trust_env=True)
    async with (
        serving(answering(SHORT, SHORT), secured(certificates)) as there,
        serving(proxy) as port,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        for _ in range(2):
            answer = await get(http, f"https://upstream.example:{there}/")
            assert await answer.read(10, PATIENCE_S) == b"hi"
        with pytest.raises(NotTrusted):
            await get(http, f"https://other.example:{there}/")
        assert [head.split()[1] for head in proxy.asked] == [
            f"upstream.example:{there}",
            f"other.example:{there}",
        ]
        await http.aclose()


@pytest.mark.parametrize(
    "refusal", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"no\r\n\r\n", b"x" * 99_999]
)
async def test_a_proxy_that_refuses_is_no_connection(monkeypatch, refusal: bytes) -> None:
    proxy, http = ForwardProxy(refusal), HttpClient.open(trust_env=True)
    async with serving(proxy) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectFailed):
            await get(http, "https://upstream.example/")
    await http.aclose()


async def test_hosts_that_are_named_as_no_proxy_are_called_directly(monkeypatch) -> None:
    proxy, http = ForwardProxy(), HttpClient.open(trust_env=True)
    async with serving(proxy) as port, serving(answering(SHORT)) as there:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await whole(http, there) == b"hi"
    assert not proxy.asked
    await http.aclose()


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1", "https://127.0.0.1:1"])
async def test_a_proxy_of_another_kind_is_not_passed_by(monkeypatch, address: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", address)
    http = HttpClient.open(trust_env=True)
    async with serving(answering(SHORT)) as there:
        with pytest.raises(ConnectFailed):
            await whole(http, there)
    await http.aclose()
