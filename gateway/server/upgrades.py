"""Reads requests that ask for another protocol as the plain requests that they are.

Java's HttpClient and ``curl --http2`` offer h2c with every request. A server may ignore that
(RFC 9110, section 7.8), but uvicorn's parser takes what follows the headers, so the body too, for
the other protocol.
"""

from array import array
from functools import partial
from types import SimpleNamespace
from typing import Any, Final
from weakref import proxy

import httptools

_OF_UPGRADES: Final = frozenset({b"upgrade", b"http2-settings"})


class PlainRequestParser(httptools.HttpRequestParser):
    """A parser that reads the headers of such a request once more, without the offer."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._head = b""
        self._begin()

    def feed_data(self, data: "bytes | bytearray | memoryview[int] | array[int]") -> None:
        """Take what arrived.

        Raises:
            httptools.HttpParserError: It is no HTTP.
            httptools.HttpParserUpgrade: It asks for a tunnel, which is no request to us.
        """
        rest = memoryview(data)
        while rest:
            try:
                super().feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                head, self._head = self._head, b""
                if not head:
                    raise
                rest = rest[upgrade.args[0] :]
                self._begin()  # what asks to close the connection too would be the last one read
                super().feed_data(head)
            else:
                return

    def _begin(self) -> None:
        # A method of its own would keep the parser, and with it the connection, once that is over.
        protocol, parser = self._protocol, proxy(self)
        reporting = SimpleNamespace(
            on_message_begin=protocol.on_message_begin,
            on_url=protocol.on_url,
            on_header=protocol.on_header,
            on_headers_complete=partial(PlainRequestParser._complete_headers, parser),
            on_body=protocol.on_body,
            on_message_complete=partial(PlainRequestParser._complete_message, parser),
        )
        super().__init__(reporting)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def _complete_headers(self) -> None:
        if self.should_upgrade() and self.get_method() != b"CONNECT":
            self._head = self._without_offer()
        else:
            self._protocol.on_headers_complete()

    def _complete_message(self) -> None:
        if not self._head:
            self._protocol.on_message_complete()

    def _without_offer(self) -> bytes:
        version = self.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.get_method(), self._protocol.url, version)]
        lines += (
            b"%b: %b" % header for header in self._protocol.headers if header[0] not in _OF_UPGRADES
        )
        return b"\r\n".join((*lines, b"", b""))
