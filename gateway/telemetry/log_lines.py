"""How log lines look: text for people, or JSON for machines, one object a line.

What a line tells besides its message is put on the record as ``extra={"fields": {...}}``.
"""

import logging
from datetime import UTC, datetime
from traceback import format_tb
from typing import Any

import orjson

from gateway.settings.config import ServerSettings

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class TextLines(logging.Formatter):
    """Writes a record as text.

    Of an exception it tells the class and where it was, not the words: those may quote a caller,
    or a provider that quotes one.
    """

    def __init__(self) -> None:
        super().__init__(TEXT)

    def formatException(self, ei: Any) -> str:  # noqa: N802 (logging's own name)
        """Write an exception and those that led to it, the latest first."""
        return where(ei[1])


class JsonLines(logging.Formatter):
    """Writes a record as a JSON object; of an exception the same as `TextLines`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record, its traceback included, without a line break."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = where(record.exc_info[1])
        return orjson.dumps(line, default=str).decode()


def where(error: BaseException) -> str:
    """Write the stack and the class of an exception and of those that led to it."""
    parts: list[str] = []
    found: BaseException | None = error
    while found is not None:
        parts.append("".join(format_tb(found.__traceback__)) + type(found).__name__)
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return "\n\nCaused by:\n".join(parts)


def formatter_of(server: ServerSettings) -> logging.Formatter:
    """Make what writes lines as the settings say."""
    return JsonLines() if server.log_format == "json" else TextLines()


def log_to_stderr(server: ServerSettings) -> None:
    """Have this process write its log as the settings say."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter_of(server))
    logging.basicConfig(level=server.log_level.upper(), handlers=[handler])
    for noisy in ("alembic", "uvicorn", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
