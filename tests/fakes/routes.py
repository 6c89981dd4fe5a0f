"""Walks every route of an application, those of included routers and mounted applications too."""

from collections.abc import Iterator
from typing import Any

from fastapi import routing


def every_route(app: Any) -> Iterator[Any]:
    """Yield whatever serves a path; `gateway.access.auth.declared_authentication` takes it."""
    # FastAPI before 0.150 or so copies included routes into the application's own list.
    contexts = getattr(routing, "iter_route_contexts", iter)
    for route in contexts(app.routes):
        mounted = getattr(getattr(route, "app", None), "routes", None)
        if mounted is None:
            yield route
        else:
            yield from every_route(route.app)
