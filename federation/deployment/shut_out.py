"""How a node learns that it was shut out for good, and ends."""

import os
import sys
from typing import Final

import orjson

REVOKED_NODE: Final = 100_002
"""What the gate says; the form is of Flower's errors, the number none of its own."""
SHUT_OUT_STATUS: Final = 77
"""Of the process that ends: EX_NOPERM of sysexits.h."""


def leave_if_shut_out(body: bytes) -> None:
    """End this process, whichever of its threads called, if an error's `body` says so.

    Flower's own threads would go on calling.
    """
    try:
        error = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    if isinstance(error, dict) and error.get("code") == REVOKED_NODE:
        sys.stderr.write(f"{error.get('detail')}\n")
        sys.stderr.flush()
        os._exit(SHUT_OUT_STATUS)
