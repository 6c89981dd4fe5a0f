"""Runs an ASGI application on a real socket, for what only a socket shows."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import uvicorn

from tests.fakes.patience import PATIENCE_S


@asynccontextmanager
async def serve(app: Any, *, lifespan: Literal["auto", "on", "off"] = "auto") -> AsyncIterator[str]:
    """Serve `app` in this event loop on a free port; yields its base URL.

    Raises:
        RuntimeError: The application refused to start.
    """
    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        lifespan=lifespan,
        ws="none",
        timeout_graceful_shutdown=1,
        # A gateway that sends just when an idle connection is closed gets no answer.
        timeout_keep_alive=int(PATIENCE_S),
    )
    config.load()
    server = uvicorn.Server(config)
    # What `Server.serve` does, without its signal handlers and its polling.
    server.lifespan = config.lifespan_class(config)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    await server.startup(sockets=[listener])
    if server.should_exit:
        raise RuntimeError("the application did not start")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await server.shutdown(sockets=[listener])


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
