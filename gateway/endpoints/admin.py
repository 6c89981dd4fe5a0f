"""The operators' side, on a port of its own: teams, keys, budgets, the log's state, metrics.

Everything but health and metrics needs the admin token. Endpoints that ask the database are plain
functions, which FastAPI runs in worker threads.
"""

import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import AwareDatetime, Field, SecretStr
from sqlalchemy import Engine

from budget.in_flight import InFlight
from gateway.access.auth import credential, declares
from gateway.access.keys import MAX_PAGE, KeyStore, NewKey, digest
from gateway.budgets.operations import BudgetDesk
from gateway.deleting import count_deleted, delete_team
from gateway.endpoints.admin_budgets import budget_endpoints
from gateway.endpoints.admin_log import log_endpoints
from gateway.endpoints.bodies import Body
from gateway.endpoints.errors import install_error_handlers
from gateway.endpoints.guard import GuardedBody
from gateway.errors import InvalidRequest, Unauthenticated
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.long_work import LongWork

MAX_BODY_BYTES = 1024 * 1024
MAX_BODY_MEMORY_BYTES = 64 * 1024 * 1024
"""The operators' own: whoever revokes a key shall not depend on what callers leave."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_TYPE = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"

Name = Annotated[str, Field(min_length=1, max_length=128)]
Models = Annotated[list[Name], Field(max_length=1000)]
After = Annotated[str | None, Query(max_length=128, description="Last id of the previous page.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


class MetricsPage(Protocol):
    """Writes the page that a scrape is shown."""

    async def __call__(self, *, is_open: bool = False) -> bytes:
        """Write it, in OpenMetrics where `is_open`."""


class TeamBody(Body):
    """A team to create."""

    id: Name
    logs_text: bool = False
    trains_reasoner: bool = False
    is_judged: bool = False
    stores_responses: bool = False
    data_rule: Name | None = None


class TeamChanges(Body):
    """What of a team may change; fields that are left out stay as they are."""

    logs_text: bool | None = None
    trains_reasoner: bool | None = None
    is_judged: bool | None = None
    stores_responses: bool | None = None
    data_rule: Name | None = None


class KeyBody(Body):
    """A key to create."""

    team_id: Name
    name: Name
    allowed_models: Models | None = None
    profile: Name | None = None
    data_rule: Name | None = None
    expires_at: AwareDatetime | None = None


class KeyChanges(Body):
    """What of a key may change; fields that are left out stay as they are."""

    name: Name = ""
    allowed_models: Models | None = None
    profile: Name | None = None
    data_rule: Name | None = None
    expires_at: AwareDatetime | None = None


class Rotation(Body):
    """How long the old secret is still honoured."""

    overlap_s: Annotated[float, Field(ge=0, le=30 * 86400, allow_inf_nan=False)] = 0.0


@dataclass(frozen=True, slots=True)
class AdminToken:
    """Lets in whoever sends the admin token as a bearer token."""

    token_sha256: bytes

    async def __call__(self, request: Request) -> None:
        """Check the request's token in constant time."""
        await self.admit(dict(request.scope["headers"]))

    async def admit(self, headers: Mapping[bytes, bytes]) -> str:
        """Check the token among a request's headers in constant time; says whose it is.

        Raises:
            Unauthenticated: It is another one, or none.
        """
        given = credential(headers) or b""
        if given[:7].lower() == b"bearer ":
            given = given[7:].strip()
        if not hmac.compare_digest(digest(given), self.token_sha256):
            raise Unauthenticated("Send the admin token: 'Authorization: Bearer TOKEN'.")
        return "admin"


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse what the endpoint does not read: who sent it meant something by it.

    Raises:
        InvalidRequest: A parameter of the query string is unknown, or comes twice.
    """
    own = request.scope["route"].dependant
    asked = (own, *own.dependencies)
    known = {each.alias for dependant in asked for each in dependant.query_params}
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidRequest(
                f"There is no parameter {name[:80]!r} here; known: {listed}.", param=name[:80]
            )
        if given.count(name) > 1:
            raise InvalidRequest(f"The parameter {name!r} comes more than once.", param=name)


async def admit_anybody() -> None:
    """Authenticate nobody: the endpoint is public on purpose."""


def build_admin_app(
    *,
    engine: Engine,
    log: EvaluationLog,
    token: SecretStr,
    metrics: MetricsPage,
    budgets: BudgetDesk | None = None,
) -> FastAPI:
    """Make the admin application.

    Args:
        metrics: Renders all series in Prometheus' text format.
        budgets: Where live counters can be seen and set; None leaves budgets out.
    """
    admin = AdminToken(digest(token.get_secret_value().encode()))
    requires_admin = Depends(declares("admin", admin.__call__))
    public = Depends(declares("public", admit_anybody))
    # FastAPI's own pages declare no authentication, so the description is served by a route here.
    app = FastAPI(
        title="Waypost admin", version="1", docs_url=None, redoc_url=None, openapi_url=None
    )
    memory = InFlight(MAX_BODY_MEMORY_BYTES, MAX_BODY_MEMORY_BYTES)
    app.add_middleware(GuardedBody, admin.admit, MAX_BODY_BYTES, memory, LongWork())
    install_error_handlers(app)
    guarded = [requires_admin, Depends(refuse_unknown_parameters)]
    app.include_router(_team_endpoints(engine), prefix="/admin", dependencies=guarded)
    app.include_router(_key_endpoints(KeyStore(engine)), prefix="/admin", dependencies=guarded)
    app.include_router(log_endpoints(engine), prefix="/admin", dependencies=guarded)
    if budgets is not None:
        app.include_router(budget_endpoints(budgets), prefix="/admin", dependencies=guarded)

    @app.get("/admin/log", tags=["log"], dependencies=guarded)
    def show_log() -> dict[str, Any]:
        """Show what became of the evaluation log's rows since this process started."""
        return {
            **asdict(log.counters),
            "dropped": log.counters.dropped,
            "queue_depth": log.queue_depth,
            "spool_bytes": log.spool_bytes,
            "is_database_down": log.is_database_down,
        }

    @app.get("/openapi.json", include_in_schema=False, dependencies=[requires_admin])
    def describe() -> dict[str, Any]:
        """Describe this API."""
        return app.openapi()

    @app.get("/health", tags=["health"], dependencies=[public])
    async def health() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "ok"}

    @app.get("/metrics", tags=["health"], dependencies=[public])
    async def show_metrics(request: Request) -> Response:
        """Show all metrics; they name neither keys nor teams. OpenMetrics has traces beside."""
        is_open = OPENMETRICS in request.headers.get("accept", "")
        page = await metrics(is_open=is_open)
        return Response(page, media_type=OPENMETRICS_TYPE if is_open else METRICS_TYPE)

    return app


def _team_endpoints(engine: Engine) -> APIRouter:
    store = KeyStore(engine)
    endpoints = APIRouter(tags=["teams"])

    @endpoints.post("/teams", status_code=201)
    def create_team(body: TeamBody) -> dict[str, Any]:
        """Create a team."""
        choices = body.model_dump(exclude={"id"})
        return asdict(store.create_team(body.id, **choices))

    @endpoints.get("/teams")
    def list_teams(after: After = None, limit: Limit = 100) -> dict[str, Any]:
        """List teams, a page at a time."""
        return _page([asdict(team) for team in store.teams(after=after, limit=limit)], limit)

    @endpoints.get("/teams/{team_id}")
    def show_team(team_id: str) -> dict[str, Any]:
        """Show a team."""
        return asdict(store.team(team_id))

    @endpoints.patch("/teams/{team_id}")
    def update_team(team_id: str, body: TeamChanges) -> dict[str, Any]:
        """Change a team."""
        return asdict(store.update_team(team_id, **body.model_dump()))

    @endpoints.delete("/teams/{team_id}")
    def delete_this_team(team_id: str, *, dry_run: bool = False) -> dict[str, Any]:
        """Delete a team with its keys, budgets and texts; counts what goes."""
        do = count_deleted if dry_run else delete_team
        return {"id": team_id, "deleted": do(engine, team_id), "is_dry_run": dry_run}

    return endpoints


def _key_endpoints(store: KeyStore) -> APIRouter:
    endpoints = APIRouter(tags=["keys"])

    @endpoints.post("/keys", status_code=201)
    def create_key(body: KeyBody) -> dict[str, Any]:
        """Create a key; its secret is shown in this answer only."""
        return _with_secret(store.create_key(**body.model_dump()))

    @endpoints.get("/keys")
    def list_keys(
        team_id: str | None = None, after: After = None, limit: Limit = 100
    ) -> dict[str, Any]:
        """List keys of one team or all, a page at a time."""
        keys = store.keys(team_id=team_id, after=after, limit=limit)
        return _page([asdict(key) for key in keys], limit)

    @endpoints.get("/keys/{key_id}")
    def show_key(key_id: str) -> dict[str, Any]:
        """Show a key, without its secret."""
        return asdict(store.key(key_id))

    @endpoints.patch("/keys/{key_id}")
    def update_key(key_id: str, body: KeyChanges) -> dict[str, Any]:
        """Change the fields that are given."""
        return asdict(store.update_key(key_id, **body.model_dump(exclude_unset=True)))

    @endpoints.post("/keys/{key_id}/revoke")
    def revoke_key(key_id: str) -> dict[str, Any]:
        """Revoke a key for good."""
        return asdict(store.revoke_key(key_id))

    @endpoints.post("/keys/{key_id}/rotate")
    def rotate_key(key_id: str, body: Rotation) -> dict[str, Any]:
        """Give a key a new secret; it is shown in this answer only."""
        return _with_secret(store.rotate_key(key_id, overlap=timedelta(seconds=body.overlap_s)))

    return endpoints


def _with_secret(new: NewKey) -> dict[str, Any]:
    return {**asdict(new.info), "key": new.secret.get_secret_value()}


def _page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """Answer with a page and where the next begins; null on the last one."""
    return {"data": items, "next_after": items[-1]["id"] if len(items) == limit else None}
