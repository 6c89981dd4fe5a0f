"""The callers' application as a whole: what it does before a request reaches its endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from gateway.endpoints.access import Access
from gateway.endpoints.asgi import Receive, Scope, Send, closing
from gateway.endpoints.azure_paths import (
    AZURE,
    DEPLOYMENT_OF_SCOPE,
    DeploymentWire,
    translated,
)
from gateway.endpoints.chat import TurnEndpoint
from gateway.endpoints.forwarding import NO_CALLS, ForwardedPaths
from gateway.pool.readiness import Readiness


@dataclass(frozen=True, slots=True)
class PublicApp:
    """The callers' application: turns go straight to their endpoint, all else through FastAPI.

    FastAPI's middleware and routing cost more CPU than forwarding the request does.

    Attributes:
        turns: By path, where POST is served.
        calls: What is forwarded and is no turn.
        origins: Of web pages that may call the gateway from a browser.
    """

    turns: Mapping[str, TurnEndpoint]
    others: FastAPI
    readiness: Readiness
    access: Access
    origins: tuple[str, ...] = ()
    calls: ForwardedPaths = NO_CALLS
    cross_origin: CORSMiddleware | None = field(init=False)

    def __post_init__(self) -> None:
        cors = CORSMiddleware(
            self.serve,
            allow_origins=self.origins,
            allow_methods=("DELETE", "GET", "POST"),
            allow_headers=("*",),
            expose_headers=("*",),
        )
        object.__setattr__(self, "cross_origin", cors if self.origins else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if self.readiness.is_leaving:
            send = closing(send)
        if scope["type"] != "http":
            await self.others(scope, receive, send)
        elif self.cross_origin is not None:
            await self.cross_origin(scope, receive, send)
        else:
            await self.serve(scope, receive, send)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["path"].startswith(AZURE):
            scope = translated(scope)
        turn = self.turns.get(scope["path"]) if scope["method"] == "POST" else None
        if turn is not None and DEPLOYMENT_OF_SCOPE in scope:
            turn = replace(turn, wire=DeploymentWire(scope[DEPLOYMENT_OF_SCOPE]))
        await self.access.serve(turn or self._others, scope, receive, send)

    async def _others(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":  # the server leaves out the body (RFC 9110, section 9.3.2)
            scope = {**scope, "method": "GET"}
        await (self.calls.find(scope) or self.others)(scope, receive, send)
