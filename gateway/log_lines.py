"""How log lines look: text for people, or JSON for machines, one object a line.

What a line tells besides its message is put on the record as ``extra={"fields": {...}}``.
"""

import logging
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.config import ServerSettings

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """Writes a record as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record, its traceback included, without a line break."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def log_to_stderr(server: ServerSettings) -> None:
    """Have this process write its log as the settings say."""
    handler = logging.StreamHandler()
    is_json = server.log_format == "json"
    handler.setFormatter(JsonLines() if is_json else logging.Formatter(TEXT))
    logging.basicConfig(level=server.log_level.upper(), handlers=[handler])
    for noisy in ("alembic", "uvicorn", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
