"""Live counters of budgets, as commands reach them: in Redis, or in the gateway that runs here."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
import httpx2
from sqlalchemy import Engine

from gateway.budgets.opening import open_store
from gateway.budgets.operations import BudgetDesk
from gateway.commands.options import say_database
from gateway.settings.config import BudgetSettings, GatewaySettings, ServerSettings
from gateway.storage.engines import opened

ADMIN_TIMEOUT_S = 60.0

T = TypeVar("T")


class Counters(Protocol):
    """Live counters, in this process or behind a gateway's admin API."""

    async def usage(
        self, budget_id: str, *, team_id: str | None, scope_id: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Show where a budget stands."""
        ...

    async def reset(
        self, budget_id: str, *, team_id: str | None, scope_id: str | None, dry_run: bool
    ) -> dict[str, Any]:
        """Set what was spent to 0, or show what was."""
        ...

    async def rebuild(self) -> dict[str, Any]:
        """Set counters to what the journal says."""
        ...

    async def verify(self) -> dict[str, Any]:
        """Compare counters with the journal."""
        ...

    async def prune(self, older_than_days: int, *, dry_run: bool) -> dict[str, Any]:
        """Fold old journal rows, or count them."""
        ...


class RemoteCounters:
    """The counters of a running gateway that keeps them in memory, by its admin API."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def usage(
        self, budget_id: str, *, team_id: str | None, scope_id: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Show where a budget stands."""
        given = {"team_id": team_id, "scope_id": scope_id, "limit": limit}
        query = {name: value for name, value in given.items() if value is not None}
        answer = await self._call("GET", f"{budget_id}/usage", params=query)
        found: list[dict[str, Any]] = answer["data"]
        return found

    async def reset(
        self, budget_id: str, *, team_id: str | None, scope_id: str | None, dry_run: bool
    ) -> dict[str, Any]:
        """Set what was spent to 0, or show what was."""
        body = {"team_id": team_id, "scope_id": scope_id, "dry_run": dry_run}
        return await self._call("POST", f"{budget_id}/reset", json=body)

    async def rebuild(self) -> dict[str, Any]:
        """Set counters to what the journal says."""
        return await self._call("POST", "rebuild")

    async def verify(self) -> dict[str, Any]:
        """Compare counters with the journal."""
        return await self._call("POST", "verify")

    async def prune(self, older_than_days: int, *, dry_run: bool) -> dict[str, Any]:
        """Fold old journal rows, or count them."""
        body = {"older_than_days": older_than_days, "dry_run": dry_run}
        return await self._call("POST", "prune", json=body)

    async def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, f"/admin/budgets/{path}", **content)
            answer: dict[str, Any] = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise click.ClickException(
                f"the gateway's admin API at {self._http.base_url} does not answer ({error}); "
                'with budgets.store = "memory" the counters are in the running gateway: start it, '
                "and set server.admin_port here to the port of its admin API"
            ) from error
        if response.is_error:
            raise click.ClickException(str(answer.get("error", {}).get("message", answer)))
        return answer


def with_counters(
    settings: GatewaySettings,
    call: Callable[[Counters], Awaitable[T]],
    *,
    is_change: bool = False,
) -> T:
    """Call with the live counters: those in Redis, or of the gateway that runs here.

    Args:
        is_change: Say on standard error whose counters change.

    Raises:
        ClickException: They cannot be reached, or refuse; the message says why.
    """
    if is_change and settings.budgets.store == "memory":
        click.echo(f"counters: of the gateway at {_admin_url(settings.server)}", err=True)
    elif is_change:
        say_database(settings)
    return asyncio.run(_with_counters(settings, call))


async def _with_counters(settings: GatewaySettings, call: Callable[[Counters], Awaitable[T]]) -> T:
    budgets = settings.budgets
    if budgets.store == "memory":
        async with _admin_client(settings) as http:
            return await call(RemoteCounters(http))
    with opened(settings) as engine:
        return await _with_store(budgets, engine, call)


async def _with_store(
    budgets: BudgetSettings, engine: Engine, call: Callable[[Counters], Awaitable[T]]
) -> T:
    async with open_store(budgets) as store:
        return await call(BudgetDesk(engine, store, time.time))


def _admin_client(settings: GatewaySettings) -> httpx2.AsyncClient:
    server = settings.server
    if server.admin_token is None:
        secret = _kept_token(settings.data_dir / "admin-token")
    else:
        secret = server.admin_token.get_secret_value()
    return httpx2.AsyncClient(
        base_url=_admin_url(server),
        headers={"authorization": f"Bearer {secret}"},
        timeout=ADMIN_TIMEOUT_S,
        trust_env=False,
    )


def _admin_url(server: ServerSettings) -> str:
    host = f"[{server.admin_host}]" if ":" in server.admin_host else server.admin_host
    return f"http://{host}:{server.admin_port}"


def _kept_token(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise click.ClickException(
            f"{file}: the admin token cannot be read ({error.strerror}). Is the gateway running "
            'with this --config? With budgets.store = "memory" the counters live in it'
        ) from error
