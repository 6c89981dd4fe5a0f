import httptools
import pytest

from gateway.server.upgrades import PlainRequestParser

OFFER = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
HEAD = b"POST /chat HTTP/1.1\r\nhost: gateway\r\n" + OFFER + b"content-length: 4\r\n"
REQUEST = HEAD + b"\r\nbody"


class Requests:
    """Collects what a parser reads; each entry is path, headers and body."""

    def __init__(self) -> None:
        self.complete: list[tuple[bytes, dict[bytes, bytes], bytes]] = []

    def on_message_begin(self) -> None:
        self.url, self.body = b"", b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url) -> None:
        self.url += url

    def on_header(self, name, value) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self.headers

    def on_body(self, body) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete.append((self.url, dict(self.headers), self.body))


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.mark.parametrize("size", [1, 7, len(HEAD), 10_000])
def test_the_body_behind_an_offer_is_read_however_it_arrives(requests, size) -> None:
    parser = PlainRequestParser(requests)
    for start in range(0, len(REQUEST), size):
        parser.feed_data(REQUEST[start : start + size])
    ((url, headers, body),) = requests.complete
    assert (url, body) == (b"/chat", b"body")
    assert headers.keys() == {b"host", b"connection", b"content-length"}


def test_many_offers_in_one_piece_are_read_one_after_the_other(requests) -> None:
    PlainRequestParser(requests).feed_data(REQUEST * 2_000)
    assert [body for _, _, body in requests.complete] == [b"body"] * 2_000


def test_who_closes_the_connection_too_has_its_body_read(requests) -> None:
    PlainRequestParser(requests).feed_data(HEAD + b"connection: close\r\n\r\nbody")
    assert [body for _, _, body in requests.complete] == [b"body"]


def test_a_tunnel_is_no_request(requests) -> None:
    with pytest.raises(httptools.HttpParserUpgrade):
        PlainRequestParser(requests).feed_data(
            b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: elsewhere\r\n" + OFFER + b"\r\n"
        )
