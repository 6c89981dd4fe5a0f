"""Reads AWS's event stream encoding, and writes what it carries as server-sent events.

https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ResponseStream.html
"""

import re
from base64 import b64decode
from binascii import crc32
from struct import Struct
from typing import Any, Final

import orjson

MAX_FRAME_BYTES: Final = 24 * 1024 * 1024
"""AWS's own limit of a payload is 24 MB, minus what is around it."""
_PRELUDE: Final = Struct(">III")
_CHECKSUM: Final = Struct(">I")
_SIZES_BYTES: Final = 8
_LEAST_BYTES: Final = _PRELUDE.size + _CHECKSUM.size
_STRING: Final = 7
_VALUE_BYTES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""By the kind of a header's value; those of 6 and 7 say how long they are."""
_NAME: Final = re.compile(r"\w{1,64}")
_STATUS_OF: Final = {
    "internalServerException": 500,
    "modelStreamErrorException": 503,
    "modelTimeoutException": 504,
    "serviceUnavailableException": 503,
    "throttlingException": 429,
    "validationException": 400,
}
"""Of what ends a stream. That a model failed (424 at AWS) is no fault of the request."""


class FrameReader:
    """Cuts frames out of what arrives, in time linear in its bytes."""

    def __init__(self) -> None:
        self._carry = bytearray()
        self._needed = _LEAST_BYTES
        self._is_broken = False

    @property
    def waiting(self) -> int:
        """Bytes of the frame that has begun."""
        return len(self._carry)

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return the events of the whole frames in it.

        Where it is no frame, one event says so, and nothing after it is read.
        """
        if self._is_broken:
            return b""
        carry = self._carry
        carry += data
        events: list[bytes] = []
        start = 0
        try:
            while len(carry) - start >= self._needed:
                size = self._size(start)
                if size is None:
                    break
                events.append(_event(bytes(carry[start : start + size])))
                start += size
                self._needed = _LEAST_BYTES
        except (ValueError, TypeError, KeyError, IndexError):
            self._is_broken = True
            carry.clear()
            events.append(_error(502, "broken_stream", "The stream is not of AWS's form."))
        del carry[:start]
        return b"".join(events)

    def _size(self, start: int) -> int | None:
        """Return the size of the frame that begins there; None where it has not all arrived."""
        size, _, checksum = _PRELUDE.unpack_from(self._carry, start)
        sizes = self._carry[start : start + _SIZES_BYTES]
        if crc32(sizes) != checksum or not _LEAST_BYTES <= size <= MAX_FRAME_BYTES:
            raise ValueError("no frame")
        self._needed = size
        return size if len(self._carry) - start >= size else None


def _event(frame: bytes) -> bytes:
    """Write what one frame says as a server-sent event.

    Raises:
        ValueError: It is damaged.
    """
    (checksum,) = _CHECKSUM.unpack_from(frame, len(frame) - _CHECKSUM.size)
    if crc32(frame[: -_CHECKSUM.size]) != checksum:
        raise ValueError("a damaged frame")
    _, headers_size, _ = _PRELUDE.unpack_from(frame)
    begin = _PRELUDE.size + headers_size
    headers = _headers(frame[_PRELUDE.size : begin])
    payload = frame[begin : -_CHECKSUM.size]
    kind = headers.get(":message-type")
    if kind == "exception":
        return _exception(headers[":exception-type"], _message_in(payload))
    if kind == "error":
        return _exception(headers[":error-code"], headers.get(":error-message", ""))
    if headers.get(":event-type") != "chunk":
        return b""
    said = b64decode(orjson.loads(payload)["bytes"], validate=True)
    name = _name_in(said)
    one_line = said.replace(b"\r", b" ").replace(b"\n", b" ")  # JSON has these between values only
    return b"event: " + name.encode() + b"\ndata: " + one_line + b"\n\n"


def _headers(raw: bytes) -> dict[str, str]:
    """Read the headers whose values are strings, as all are that matter here."""
    headers: dict[str, str] = {}
    at = 0
    while at < len(raw):
        named = at + 1 + raw[at]
        name, kind = raw[at + 1 : named].decode(), raw[named]
        at = named + 1
        size = _VALUE_BYTES.get(kind)
        if size is None:
            size = int.from_bytes(raw[at : at + 2], "big")
            at += 2
        if kind == _STRING:
            headers[name] = raw[at : at + size].decode()
        at += size
    return headers


def _name_in(said: bytes) -> str:
    kind = orjson.loads(said)["type"]
    return kind if isinstance(kind, str) and _NAME.fullmatch(kind) else "message"


def _message_in(payload: bytes) -> str:
    said: Any = orjson.loads(payload)
    return str(said.get("message", "")) if isinstance(said, dict) else ""


def _exception(name: str, message: str) -> bytes:
    return _error(_STATUS_OF.get(name, 500), name, message)


def _error(status: int, name: str, message: str) -> bytes:
    said = {"type": "error", "error": {"type": name, "code": status, "message": message}}
    return b"event: error\ndata: " + orjson.dumps(said) + b"\n\n"
