"""Makes FastAPI's own errors leave in OpenAI's shape."""

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from starlette.exceptions import HTTPException

from budget.errors import BudgetError
from gateway.endpoints.access import ENDPOINTS, MESSAGES_PATH, tell
from gateway.endpoints.asgi import Scope
from gateway.errors import DependencyUnavailable, GatewayError, InvalidRequest, NotFound
from gateway.storage.database import is_row_fault, summary
from gateway.wires.base import Wire
from gateway.wires.chat import CHAT
from gateway.wires.messages import MESSAGES
from router_models.errors import RouterModelsError

VERSION_HEADER = b"anthropic-version"
NOT_FOUND = 404
MAX_PATH_CHARS = 256
RETRY_AFTER_S = 5.0
"""When a database that is down or locked is worth another try."""

_log = logging.getLogger(__name__)


def wire_of(scope: Scope) -> Wire:
    """Tell on which wire a request is asked that is no turn: Anthropic's SDKs name a version."""
    names = {name for name, _ in scope["headers"]}
    is_anthropic = VERSION_HEADER in names or scope["path"].startswith(MESSAGES_PATH)
    return MESSAGES if is_anthropic else CHAT


def install_error_handlers(app: FastAPI) -> None:
    """Render every error of `app` by the one table."""
    app.add_exception_handler(GatewayError, _render)
    app.add_exception_handler(BudgetError, _render)
    app.add_exception_handler(RouterModelsError, _render)
    app.add_exception_handler(RequestValidationError, _render_validation)
    app.add_exception_handler(HTTPException, _render_http)
    app.add_exception_handler(SQLAlchemyError, _render_storage)
    app.add_exception_handler(Exception, _render)


async def _render(request: Request, error: Exception) -> Response:
    tell(request.scope, error=error)
    rendered = wire_of(request.scope).error(error)
    headers = {name.decode(): value.decode() for name, value in rendered.headers}
    return Response(rendered.body, rendered.status, headers)


async def _render_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    if first["loc"] == ("body",) and not _is_json(request):
        raw = "Send the body as JSON, with the header 'Content-Type: application/json'."
        return await _render(request, InvalidRequest(raw))
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    return await _render(request, InvalidRequest(f"{param or 'body'}: {first['msg']}", param=param))


async def _render_storage(request: Request, error: Exception) -> Response:
    """Say whether waiting helps, as the database cannot be used now, or another request."""
    if is_row_fault(error):
        return await _render(request, InvalidRequest("The database cannot hold what was sent."))
    if isinstance(error, ProgrammingError):
        raise error  # the gateway's own fault
    _log.warning("%s %s: %s", request.method, request.url.path, summary(error))
    down = "The database cannot be used now. Try again soon."
    return await _render(request, DependencyUnavailable(down, retry_after_s=RETRY_AFTER_S))


def _is_json(request: Request) -> bool:
    return "json" in request.headers.get("content-type", "")


async def _render_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    path = request.url.path
    told = f"{request.method} {path}: {error.detail}."
    meant = meant_path(path) if error.status_code == NOT_FOUND else None
    response = await _render(request, NotFound(told if meant is None else f"{told} {meant}"))
    response.status_code = error.status_code
    allowed = (error.headers or {}).get("Allow")
    if allowed is not None:
        methods = sorted({*allowed.split(", "), *(("HEAD",) if "GET" in allowed else ())})
        response.headers["allow"] = ", ".join(methods)
    return response


def meant_path(path: str) -> str | None:
    """Say which endpoint may be meant by a path that is none; None where none is near.

    It is not served: a path that leads somewhere in two spellings is one that a proxy in front may
    guard in one of them only.
    """
    parts = [part for part in path[:MAX_PATH_CHARS].lower().split("/") if part not in ("", "v1")]
    meant = "/".join(("", *parts))
    found = next((known for known in ENDPOINTS if known in (meant, f"/v1{meant}")), None)
    return None if found is None else f"Is {found} meant?"
