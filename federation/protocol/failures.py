"""The reply of a node whose app failed, and how the coordinator reads it.

The class of the exception and the code that raised it always travel. Its message travels only
where the class speaks of code and not of data: a `ValueError` may quote a row, and rows never
leave a site. The node's own log has all of it.
"""

import traceback
from typing import Final

from flwr.app import Error, Message

APP_RAISED: Final = 100
"""Flower's error code where a client app fails."""
MAX_REASON: Final = 500
SAFE_MESSAGE_TYPES: Final = (
    ArithmeticError,
    AttributeError,
    ImportError,
    MemoryError,
    NameError,
    NotImplementedError,
    RuntimeError,  # torch's, of shapes, devices and memory
    TypeError,
    Warning,
)
PACKAGES: Final = ("federation", "gateway", "router_models", "budget")


def failure(message: Message, error: Exception) -> Message:
    """Answer `message` with the reason why no answer could be made."""
    return Message(Error(APP_RAISED, reason_of(error)), reply_to=message)


def reason_of(error: Exception) -> str:
    """Say in one line what failed and where, without what rows hold."""
    said = f"{type(error).__name__} in {_place(error)}"
    if isinstance(error, SAFE_MESSAGE_TYPES):
        return _line(f"{said}: {error}")
    if isinstance(error, OSError) and error.strerror:
        return _line(f"{said}: {error.strerror}")
    return f"{said}; the node's log has the message"


def read_failure(message: Message) -> str | None:
    """Say why a node failed, in one line; None where it did not."""
    if not message.has_error():
        return None
    error = message.error
    return (
        f"the node failed: {_line(error.reason or 'no reason given')} (Flower error {error.code})"
    )


def _place(error: Exception) -> str:
    """Name the function of ours that the exception came through last."""
    place = "a library"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] in PACKAGES:
            place = f"{module}.{frame.f_code.co_name}"
    return place


def _line(text: str) -> str:
    """Keep what can be printed, in one line of bounded length."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * MAX_REASON])
    return " ".join(printable.split())[:MAX_REASON]
