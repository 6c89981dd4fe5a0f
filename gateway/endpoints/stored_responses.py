"""What clients of the Responses API ask of stored responses: none are, and they are told so."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from gateway.endpoints.access import RESPONSES_PATH
from gateway.errors import NotFound
from gateway.types import Caller

_ADVICE = (
    "No response is stored here. Keep it yourself, and send the whole `input` with `store: false`."
)


def add_stored_responses(endpoints: APIRouter, requires_key: Callable[..., Any]) -> None:
    """Add the endpoints."""
    one = f"{RESPONSES_PATH}/{{response_id}}"

    @endpoints.get(one, tags=["responses"])
    @endpoints.delete(one, tags=["responses"])
    @endpoints.get(f"{one}/input_items", tags=["responses"])
    async def find_response(
        response_id: str, caller: Annotated[Caller, Depends(requires_key)]
    ) -> None:
        """Find no response."""
        del response_id, caller
        raise NotFound(_ADVICE, param="response_id")
