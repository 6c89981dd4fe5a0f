"""The callers' API as an OpenAPI document: `data/openapi.json`, and what an operator lets pass."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends

from gateway.settings.passthrough import PassthroughSettings
from gateway.types import Caller

DOCUMENT: Final = Path(__file__).with_name("data") / "openapi.json"
OPENAPI_PATH: Final = "/openapi.json"


def add_description(
    endpoints: APIRouter,
    requires_key: Callable[..., Any],
    passthrough: Iterable[PassthroughSettings],
) -> None:
    """Add the endpoint that serves the document."""

    @endpoints.get(OPENAPI_PATH, tags=["health"])
    async def describe_api(caller: Annotated[Caller, Depends(requires_key)]) -> dict[str, Any]:
        """Describe what this key's team may call."""
        return describe(
            table for table in passthrough if not table.teams or caller.team_id in table.teams
        )


def describe(passthrough: Iterable[PassthroughSettings]) -> dict[str, Any]:
    """Describe what is served, with these endpoints of providers."""
    document: dict[str, Any] = orjson.loads(DOCUMENT.read_bytes())
    for table in passthrough:
        methods = document["paths"].setdefault(table.path, {})
        methods[table.method.lower()] = _passed(table)
    return document


def _passed(table: PassthroughSettings) -> dict[str, Any]:
    """Describe an endpoint whose bodies and answers pass as they are."""
    parts = re.findall(r"\{(\w+)\}", table.path)
    operation: dict[str, Any] = {
        "operationId": f"{table.method.lower()}{re.sub(r'[^a-zA-Z0-9]+', '_', table.path)}",
        "tags": ["passthrough"],
        "summary": "An endpoint of a provider, passed through",
        "parameters": [
            {"name": part, "in": "path", "required": True, "schema": {"type": "string"}}
            for part in parts
        ],
        "responses": {
            "2XX": {"description": "The provider's answer.", "content": {"*/*": {}}},
            "4XX": {"$ref": "#/components/responses/Refused"},
            "5XX": {"$ref": "#/components/responses/Failed"},
        },
    }
    if table.method == "POST":
        forms: dict[str, Any] = {
            kind: {"schema": {"type": "object"}}
            for kind in ("application/json", "multipart/form-data")
        }
        operation["requestBody"] = {"content": forms}
    return operation
