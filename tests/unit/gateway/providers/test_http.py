import asyncio
import os
import socket
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from federation.deployment.certificates import CertificateFolder
from gateway.providers.exchange import (
    BodyTooLong,
    ConnectFailed,
    ConnectionBroken,
    HttpResponse,
    NotTrusted,
    TimedOut,
)
from gateway.providers.http import HttpClient
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import free_port, serve
from tests.fakes.upstream import Answer, ScriptedUpstream, json_answer


async def asked(http: HttpClient, url: str, timeout_s: float = PATIENCE_S) -> HttpResponse:
    return await http.request(
        "POST",
        url,
        headers={"x-a": "b"},
        body=b"{}",
        connect_timeout_s=PATIENCE_S,
        timeout_s=timeout_s,
    )


async def test_sends_what_it_is_given_and_nothing_of_its_own(http: HttpClient) -> None:
    upstream = ScriptedUpstream(json_answer({}))
    async with serve(upstream) as url:
        response = await asked(http, f"{url}/p%2Fq?v=1")
        assert await response.read(100, 1.0) == b"{}"
    sent = upstream.last
    assert (sent.method, sent.path, sent.query, sent.raw) == ("POST", "/p%2Fq", "v=1", b"{}")
    assert sent.headers["x-a"] == "b"
    assert "user-agent" not in sent.headers
    assert "cookie" not in sent.headers


async def test_keeps_no_cookies(http: HttpClient) -> None:
    upstream = ScriptedUpstream(json_answer({}, headers={"set-cookie": "session=1"}))
    async with serve(upstream) as url:
        for _ in range(2):
            await (await asked(http, url)).read(100, 1.0)
    assert "cookie" not in upstream.last.headers


async def test_follows_no_redirect(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((), status=302, headers={"Location": "http://other/"}))
    async with serve(upstream) as url:
        response = await asked(http, url)
        assert response.status == 302
        assert response.headers["location"] == "http://other/"
        response.close()


async def test_ignores_the_environments_proxies(
    http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    async with serve(ScriptedUpstream(json_answer({}))) as url:
        assert await (await asked(http, url)).read(100, 1.0) == b"{}"


async def test_does_not_decompress(http: HttpClient) -> None:
    squeezed = Answer((b"\x1f\x8b not gzip",), headers={"content-encoding": "gzip"})
    async with serve(ScriptedUpstream(squeezed)) as url:
        assert await (await asked(http, url)).read(100, 1.0) == b"\x1f\x8b not gzip"


async def test_a_closed_port_is_no_connection(http: HttpClient) -> None:
    with pytest.raises(ConnectFailed):
        await asked(http, f"http://127.0.0.1:{free_port()}")


async def test_a_host_that_never_accepts_is_no_connection(http: HttpClient) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)  # noqa: FBT003 - the socket module's signature
            one.connect_ex(address)
        with pytest.raises(ConnectFailed):
            await http.request(
                "GET",
                f"http://127.0.0.1:{address[1]}",
                headers={},
                body=None,
                connect_timeout_s=0.05,
                timeout_s=PATIENCE_S,
            )
        for one in waiting:
            one.close()


async def test_silence_times_out(http: HttpClient) -> None:
    async with serve(ScriptedUpstream(Answer(stalls_at_once=True))) as url:
        with pytest.raises(TimedOut):
            await asked(http, url, timeout_s=0.05)


async def test_what_is_not_http_is_a_broken_connection(http: HttpClient) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionBroken):
            await asked(http, f"http://127.0.0.1:{port}")


async def test_a_body_over_the_limit_is_refused(http: HttpClient) -> None:
    async with serve(ScriptedUpstream(Answer((b"x" * 50, b"y" * 60)))) as url:
        response = await asked(http, url)
        with pytest.raises(BodyTooLong):
            await response.read(100, 1.0)


async def test_joins_a_body_of_several_pieces(http: HttpClient) -> None:
    async with serve(ScriptedUpstream(Answer((b"a", b"b", b"c"), pause_s=0.01))) as url:
        assert await (await asked(http, url)).read(100, 1.0) == b"abc"


async def test_a_body_that_stalls_times_out(http: HttpClient) -> None:
    async with serve(ScriptedUpstream(Answer((b"a",), stalls=True))) as url:
        with pytest.raises(TimedOut):
            await (await asked(http, url)).read(100, 0.05)


async def test_a_body_that_breaks_off_is_a_broken_connection(http: HttpClient) -> None:
    async with serve(ScriptedUpstream(Answer((b"a",), cuts_off=True))) as url:
        whole = await asked(http, url)
        with pytest.raises(ConnectionBroken):
            await whole.read(100, 1.0)
        whole.close()
        pieces = await asked(http, url)
        assert await pieces.next_chunk(1.0) == b"a"
        with pytest.raises(ConnectionBroken):
            await pieces.next_chunk(1.0)
        pieces.close()


async def test_the_end_of_a_body_is_an_empty_chunk(http: HttpClient) -> None:
    async with serve(ScriptedUpstream(Answer((b"a",)))) as url:
        response = await asked(http, url)
        assert await response.next_chunk(1.0) == b"a"
        assert await response.next_chunk(1.0) == b""


async def test_draining_keeps_the_connection_for_the_next_request(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((b"a", b"b")))
    async with serve(upstream) as url:
        response = await asked(http, url)
        await response.next_chunk(1.0)
        await response.drain()
        response.close()
        assert not upstream.last.has_disconnected.is_set()
        again = await asked(http, url)
        assert again.status == 200
        again.close()


async def test_a_certificate_of_an_unknown_authority_is_told_apart(
    http: HttpClient, tmp_path: Path
) -> None:
    folder = CertificateFolder(tmp_path / "certificates")
    folder.issue_server(["127.0.0.1"], datetime.now(UTC))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder.server, folder.server_key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(NotTrusted, match="CERTIFICATE_VERIFY_FAILED"):
            await asked(http, f"https://127.0.0.1:{port}")


ASK = """
import asyncio, sys
from gateway.providers.http import HttpClient

async def main():
    http = HttpClient.open()
    times = {"connect_timeout_s": 60.0, "timeout_s": 60.0}
    response = await http.request("POST", sys.argv[1], headers={}, body=b"", **times)
    await http.aclose()
    print(response.status)

asyncio.run(main())
"""


async def test_an_authority_that_the_environment_names_is_trusted(tmp_path: Path) -> None:
    folder = CertificateFolder(tmp_path / "certificates")
    folder.issue_server(["127.0.0.1"], datetime.now(UTC))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder.server, folder.server_key)
    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with server:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ASK),
            f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            env={**os.environ, "SSL_CERT_FILE": str(folder.authority)},
            stdout=asyncio.subprocess.PIPE,
        )
        written, _ = await child.communicate()
    assert written == b"200\n"


async def test_reaches_a_host_by_an_address_of_ipv6(http: HttpClient) -> None:
    server = await asyncio.start_server(greet, "::1", 0)
    async with server:
        response = await asked(http, f"http://[::1]:{server.sockets[0].getsockname()[1]}")
        assert response.status == 200


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    await writer.drain()
    writer.close()
