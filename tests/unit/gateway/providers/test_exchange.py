"""What the HTTP client holds against strange and hostile upstreams, on real sockets."""

import asyncio
import socket

import pytest

from gateway.providers.connection import MAX_HEAD_BYTES
from gateway.providers.exchange import (
    MAX_WAITING_BYTES,
    ConnectFailed,
    ConnectionBroken,
    TimedOut,
)
from gateway.providers.http import HttpClient
from tests.fakes.patience import PATIENCE_S
from tests.fakes.raw_servers import CHUNKED, OK, SHORT, Serve, answering, get, serving, whole
from tests.fakes.turns import until


def endless(begin: bytes, piece: bytes) -> Serve:
    """Begin an answer, and then write for as long as anybody reads."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        while True:
            writer.write(piece)
            await writer.drain()

    return serve


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (OK, b"x-a: b\r\n"),
        (OK + b"x-long: ", b"a" * 1000),
        (b"HTTP/1.1 200 ", b"O" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + b"2;", b"extension" * 100),
        (CHUNKED + b"2\r\nhi\r\n0\r\n", b"x-trailer: b\r\n"),
    ],
    ids=["headers", "one header", "status line", "interim", "chunk extension", "trailers"],
)
async def test_what_never_ends_is_cut_off(http: HttpClient, begin: bytes, piece: bytes) -> None:
    async with serving(endless(begin, piece)) as port:
        with pytest.raises(ConnectionBroken):
            await whole(http, port)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi!",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"content-length: -2\r\n\r\nhi",
        CHUNKED + b"zz\r\nhi\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        OK + b"content-length: 5\r\n\r\nhi",
        CHUNKED + b"2\r\nhi\r\n",
        b"",
    ],
)
async def test_what_is_not_a_whole_answer_is_a_broken_connection(
    http: HttpClient, answer: bytes
) -> None:
    async with serving(answering(answer, then="ends")) as port:
        with pytest.raises(ConnectionBroken):
            await whole(http, port)
        await until(lambda: http.connections == (0, 0))


async def test_interim_answers_are_passed_over(http: HttpClient) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    async with serving(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + hints + SHORT)) as port:
        answer = await get(http, f"http://127.0.0.1:{port}")
        assert await answer.read(100, PATIENCE_S) == b"hi"
    assert (answer.status, "link" in answer.headers) == (200, False)


async def test_of_headers_of_one_name_the_first_counts(http: HttpClient) -> None:
    twice = OK + b"Retry-After: 1\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n"
    async with serving(answering(twice)) as port:
        answer = await get(http, f"http://127.0.0.1:{port}")
    assert answer.headers["retry-after"] == "1"


async def test_a_body_without_a_length_ends_with_its_connection(http: HttpClient) -> None:
    async with serving(answering(OK + b"\r\nhi", then="ends")) as port:
        assert await whole(http, port) == b"hi"


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", OK + b"content-length: 9\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
    ],
)
async def test_answers_that_have_no_body_are_whole_at_once(
    http: HttpClient, method: str, head: bytes
) -> None:
    async with serving(answering(head)) as port:
        answer = await get(http, f"http://127.0.0.1:{port}", method)
        assert await answer.read(100, PATIENCE_S) == b""


async def test_a_second_answer_to_one_request_reaches_no_other_request(http: HttpClient) -> None:
    poison = OK + b"content-length: 6\r\n\r\npoison"
    n_connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        await answering(SHORT + poison)(reader, writer)

    async with serving(serve) as port:
        for _ in range(3):
            assert await whole(http, port) == b"hi"
    assert n_connections == 3


async def test_what_comes_unasked_on_an_idle_connection_ends_it(http: HttpClient) -> None:
    may_write, connected = asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SHORT)
        if connected == 1:
            await may_write.wait()
            writer.write(SHORT.replace(b"hi", b"no"))
        await reader.read()

    async with serving(serve) as port:
        assert await whole(http, port) == b"hi"
        may_write.set()
        await until(lambda: http.connections[0] == 0)
        assert await whole(http, port) == b"hi"
    assert connected == 2


async def test_a_connection_serves_one_request_after_the_other(http: HttpClient) -> None:
    async with serving(answering(*[SHORT] * 5)) as port:
        for _ in range(5):
            assert await whole(http, port) == b"hi"
        assert http.connections == (1, 1)


async def test_many_who_ask_at_the_same_time_share_connections_and_get_their_own_answers(
    http: HttpClient,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = (await reader.readuntil(b"\r\n\r\n")).split()[1]
            writer.write(OK + b"content-length: %d\r\n\r\n" % len(asked) + asked)

    async def many(port: int, name: int) -> list[bytes]:
        url = f"http://127.0.0.1:{port}/{name}."
        answers = [await get(http, f"{url}{number}") for number in range(20)]
        return [await answer.read(100, PATIENCE_S) for answer in answers]

    async with serving(serve) as port:
        found = await asyncio.gather(*(many(port, name) for name in range(16)))
        assert http.connections[0] <= 16
    expected = [[b"/%d.%d" % (name, number) for number in range(20)] for name in range(16)]
    assert found == expected


@pytest.mark.parametrize(
    "answer", [OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", b"HTTP/1.0" + SHORT[8:]]
)
async def test_a_connection_that_is_to_close_is_not_used_again(
    http: HttpClient, answer: bytes
) -> None:
    async with serving(answering(answer)) as port:
        assert await whole(http, port) == b"hi"
        assert await whole(http, port) == b"hi"


async def test_a_connection_that_the_upstream_has_closed_is_not_used_again(
    http: HttpClient,
) -> None:
    async with serving(answering(SHORT, then="ends")) as port:
        assert await whole(http, port) == b"hi"
        await until(lambda: http.connections[0] == 0)
        assert await whole(http, port) == b"hi"


@pytest.mark.parametrize(("method", "is_repeated"), [("GET", True), ("POST", False)])
async def test_only_what_is_safe_to_repeat_is_sent_again_where_a_kept_connection_breaks(
    http: HttpClient, method: str, *, is_repeated: bool
) -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await reader.readuntil(b"\r\n\r\n")
            asked += 1
            if asked == 2:
                return
            writer.write(SHORT)

    async with serving(serve) as port:
        assert await whole(http, port) == b"hi"
        if is_repeated:
            assert (await get(http, f"http://127.0.0.1:{port}", method)).status == 200
        else:
            with pytest.raises(ConnectionBroken):
                await get(http, f"http://127.0.0.1:{port}", method)
    assert asked == (3 if is_repeated else 2)


async def test_a_fresh_connection_that_breaks_is_not_tried_again(http: HttpClient) -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1

    async with serving(serve) as port:
        with pytest.raises(ConnectionBroken):
            await whole(http, port)
    assert asked == 1


async def test_idle_connections_are_closed_after_a_while() -> None:
    http = HttpClient.open(keepalive_s=0.05)
    async with serving(answering(SHORT)) as port:
        assert await whole(http, port) == b"hi"
        assert http.connections == (1, 1)
        await until(lambda: http.connections[0] == 0)
    await http.aclose()


async def test_an_answer_that_comes_before_the_request_was_taken_frees_no_connection(
    http: HttpClient,
) -> None:
    early = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
    async with serving(answering(early)) as port:
        answer = await http.request(
            "POST",
            f"http://127.0.0.1:{port}",
            headers={},
            body=b"x" * 20_000_000,
            connect_timeout_s=PATIENCE_S,
            timeout_s=PATIENCE_S,
        )
        assert (answer.status, await answer.read(10, PATIENCE_S)) == (413, b"no")
        assert http.connections[1] == 0


async def test_an_upstream_is_not_read_from_while_nobody_reads(http: HttpClient) -> None:
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        writer.write(CHUNKED)
        for _ in range(2_000):
            writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            await writer.drain()
            written += 0x8000
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with serving(serve) as port:
        answer = await get(http, f"http://127.0.0.1:{port}")
        before = -1
        while written != before:  # until no more is taken
            before = written
            await asyncio.sleep(0.1)
        assert written < 2_000 * 0x8000 / 2
        assert answer._waiting_bytes < 4 * MAX_WAITING_BYTES
        assert len(await answer.read(100_000_000, PATIENCE_S)) == 2_000 * 0x8000
        assert http.connections == (1, 1)


async def test_a_near_deadline_holds_after_a_far_one(http: HttpClient) -> None:
    async with serving(answering(SHORT, b"")) as port:
        assert await whole(http, port) == b"hi"
        with pytest.raises(TimedOut):
            await get(http, f"http://127.0.0.1:{port}", timeout_s=0.05)


async def test_a_far_deadline_is_not_cut_short_by_a_near_one(http: HttpClient) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"content-length: 2\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(b"hi")

    async with serving(serve) as port:
        answer = await get(http, f"http://127.0.0.1:{port}")
        with pytest.raises(TimedOut):
            await answer.next_chunk(0.05)
        assert await answer.next_chunk(PATIENCE_S) == b"hi"


async def test_a_caller_who_is_gone_leaves_no_connection(http: HttpClient) -> None:
    async with serving(answering(b"")) as port:
        asking = asyncio.create_task(whole(http, port))
        await until(lambda: http.connections[0] > 0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: http.connections[0] == 0)


@pytest.mark.parametrize("value", ["a\r\nx-b: c", "a\nb", "a\rb", "a\0b"])
async def test_a_header_cannot_become_two(http: HttpClient, value: str) -> None:
    async with serving(answering(SHORT)) as port:
        with pytest.raises(ValueError, match="line end"):
            await whole(http, port, **{"x-a": value})


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "http:///path", "http://127.0.0.1:99999/", "http://no.invalid/"]
)
async def test_an_address_that_leads_nowhere_is_no_connection(http: HttpClient, url: str) -> None:
    with pytest.raises(ConnectFailed):
        await get(http, url)


async def test_an_address_is_sent_in_a_form_that_http_takes(http: HttpClient) -> None:
    asked = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(SHORT)

    async with serving(serve) as port:
        answer = await get(http, f"http://me:p%40ss@localhost:{port}/a b/é?q=ü%20 x\r\ny: z")
        await answer.read(10, PATIENCE_S)
    line, *headers = asked.decode().split("\r\n")
    assert line == "GET /a%20b/%C3%A9?q=%C3%BC%20%20xy:%20z HTTP/1.1"
    assert f"host: localhost:{port}" in headers
    assert "authorization: Basic bWU6cEBzcw==" in headers


async def test_a_large_head_is_read(http: HttpClient) -> None:
    large = b"x-large: " + b"a" * (MAX_HEAD_BYTES // 2) + b"\r\n"
    async with serving(answering(OK + large + b"content-length: 2\r\n\r\nhi")) as port:
        assert await whole(http, port) == b"hi"
