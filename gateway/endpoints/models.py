"""Models as Anthropic lists them: https://platform.claude.com/docs/en/api/models/list."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.errors import InvalidRequest
from gateway.settings.config import ProfileSettings
from gateway.types import HostedModel

DEFAULT_LIMIT: Final = "20"
MAX_LIMIT: Final = 1000
UNKNOWN_DATE: Final = "1970-01-01T00:00:00Z"
"""What Anthropic gives where the date of a release is not known."""


def page_of(models: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """Cut out of `models` the part that a query asks for.

    Raises:
        InvalidRequest: Its `limit` is out of range.
    """
    asked = query.get("limit", DEFAULT_LIMIT)
    limit = int(asked[:9]) if asked.isascii() and asked.isdigit() else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit: it must be from 1 to {MAX_LIMIT}", param="limit")
    ids = [model["id"] for model in models]
    after, before = query.get("after_id"), query.get("before_id")
    start = ids.index(after) + 1 if after in ids else 0
    end = ids.index(before) if before in ids else len(models)
    if before in ids:
        start = max(start, end - limit)
    shown = models[start:end][:limit]
    return {
        "data": shown,
        "has_more": start > 0 if before in ids else start + len(shown) < end,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def info_of(name: str, model: HostedModel | ProfileSettings | None) -> dict[str, Any]:
    """Describe what `name` stands for; `auto` and profiles are models too."""
    info: dict[str, Any] = {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": UNKNOWN_DATE,
        "lifecycle": "active",
    }
    if isinstance(model, HostedModel):
        info["max_input_tokens"] = model.capabilities.context_tokens
        info["max_tokens"] = model.capabilities.max_output_tokens
    return info
