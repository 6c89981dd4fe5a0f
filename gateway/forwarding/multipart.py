"""Reads the short fields of a multipart body that passes as it is.

What is read here decides about models and prices, and another parser reads the same bytes upstream.
So a body that two parsers could read differently is refused (RFC 7578, RFC 2046 section 5.1.1).
"""

import re
from typing import Final

from gateway.errors import InvalidRequest

MAX_PARTS: Final = 128
MAX_HEAD_BYTES: Final = 4096
MAX_VALUE_BYTES: Final = 64 * 1024
_TYPE: Final = re.compile(
    rb'multipart/form-data; *boundary=(?:"([A-Za-z0-9\'()+_,./:=? -]{1,69}[A-Za-z0-9_-])"'
    rb"|([A-Za-z0-9'+_.-]{1,70}))"
)
_DISPOSITION: Final = re.compile(
    rb'content-disposition: *form-data; *name="([A-Za-z0-9_.\[\]-]{1,128})"'
    rb'(; *filename="[^"\r\n\\]*")?(; *filename\*=[^;"\s]*)?',
    re.IGNORECASE,
)
_OTHER_HEADER: Final = re.compile(rb"content-(type|length): *[\x20-\x7e]*", re.IGNORECASE)


def is_multipart(content_type: bytes) -> bool:
    """Whether a body says that it is a form."""
    return content_type[:20].lower().startswith(b"multipart/form-data")


def form_fields(body: bytes, content_type: bytes) -> dict[str, str | None]:
    """Return the fields of a form by name; those of files, and of long texts, are None.

    Raises:
        InvalidRequest: It is no form, or one that could be read in two ways.
    """
    found = _TYPE.fullmatch(content_type)
    if found is None:
        raise InvalidRequest("The Content-Type must be multipart/form-data with a plain boundary.")
    boundary = b"--" + (found[1] or found[2])
    fields: dict[str, str | None] = {}
    spelled: dict[str, str] = {}
    for part in _parts(body, boundary):
        head, separator, value = part.partition(b"\r\n\r\n")
        name, is_file = _read_head(head) if separator else ("", False)
        if not name:
            raise _odd()
        base = name.partition("[")[0]
        is_other_spelling = spelled.setdefault(base.lower(), base) != base
        if is_other_spelling or (base in fields and (base == name or fields[base] is not None)):
            raise InvalidRequest(f"`{base}` is there twice.", param=base)
        is_text = not is_file and base == name and len(value) <= MAX_VALUE_BYTES
        fields[base] = value.decode("utf-8", "replace") if is_text else None
    return fields


def _parts(body: bytes, boundary: bytes) -> list[bytes]:
    """Cut a form at its boundary, which must be nowhere else, and nothing before or after it."""
    opening, middle, end = boundary + b"\r\n", b"\r\n" + boundary, b"\r\n" + boundary + b"--"
    inner = body.removesuffix(b"\r\n")
    if not inner.startswith(opening) or not inner.endswith(end):
        raise _odd()
    inner = inner[len(boundary) : -len(end)]
    if body.count(boundary) > MAX_PARTS + 1:
        raise InvalidRequest(f"The form has more than {MAX_PARTS} parts.")
    parts = inner.split(middle)
    is_plain = all(part.startswith(b"\r\n") for part in parts)
    if not is_plain or body.count(boundary) != len(parts) + 1:
        raise _odd()
    return [part[2:] for part in parts]


def _read_head(head: bytes) -> tuple[str, bool]:
    """Return the name of a part, empty where its headers are odd, and whether it is a file."""
    if len(head) > MAX_HEAD_BYTES or b"\n" in head.replace(b"\r\n", b""):
        return "", False
    name, is_file = "", False
    for line in head.split(b"\r\n"):
        disposition = _DISPOSITION.fullmatch(line)
        if disposition is not None and not name:
            name, is_file = disposition[1].decode(), bool(disposition[2] or disposition[3])
        elif b"\r" in line or not _OTHER_HEADER.fullmatch(line):
            return "", False
    return name, is_file


def _odd() -> InvalidRequest:
    return InvalidRequest("The form can be read in more than one way. Write it plainly.")
