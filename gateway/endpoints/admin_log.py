"""The operators' side of the evaluation log: one turn by any of its ids."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy import Engine

from gateway.errors import NotFound
from gateway.evaluation_log.one_turn import find_turns


def log_endpoints(engine: Engine) -> APIRouter:
    """Make the endpoints that read what the log holds."""
    endpoints = APIRouter(tags=["log"])

    @endpoints.get("/turns/{turn_id}")
    def show_turn(turn_id: str) -> dict[str, Any]:
        """Show the turn with this id of a request, decision or answer, or all turns of a trace."""
        found = find_turns(engine, turn_id)
        if not found:
            raise NotFound(f"no turn has the id {turn_id[:80]!r}", param="turn_id")
        return {"data": found}

    return endpoints
