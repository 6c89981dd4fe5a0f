"""What the bodies of requests have in common that FastAPI reads."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError

from gateway.nesting import MAX_DEPTH


class Body(BaseModel):
    """A request's body; a misspelt field is refused, and so is what no database holds."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _holds_what_can_be_stored(cls, value: Any) -> Any:
        """Look at every text within a field: Postgres takes no U+0000, UTF-8 no lone surrogate."""
        level: list[object] = [value]
        for _ in range(MAX_DEPTH):
            if not all(_is_storable(part) for part in level if isinstance(part, str)):
                raise PydanticCustomError("text", "U+0000 and lone surrogates cannot be stored")
            level = [part for outer in level for part in _parts(outer)]
            if not level:
                return value
        raise PydanticCustomError("depth", "the value is nested too deeply")


def _is_storable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return (*value, *value.values())
    return value if isinstance(value, list) else ()
