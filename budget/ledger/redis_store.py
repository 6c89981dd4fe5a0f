"""Counters in Redis, shared by every gateway: one script, one round trip per call."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from budget.errors import LedgerUnavailable
from budget.ledger.amounts import MAX_COMPLETION_TOKENS, check_hold, refusal
from budget.ledger.redis_link import Argument, ClusterLink, Link, PipelinedLink, Unreachable
from budget.ledger.types import Granted, Hold, Limit, Refused, Standing, UnjournaledCharge

CONNECT_TIMEOUT_S = 0.5
CALL_TIMEOUT_S = 0.5
RETRY_AFTER_S = 1.0
MAX_ABANDONED = 10_000
ACKNOWLEDGE_BATCH = 500
_TRANSIENT_ERRORS = (
    "LOADING",
    "READONLY",
    "OOM",
    "BUSY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
)
"""Errors that end when Redis has started, failed over, or has room again."""


class RedisStore:
    """The `LedgerStore` of many gateways: decides in Redis, by Redis' clock.

    Args:
        client: Of one server or of a cluster; it stays the caller's to close, after `aclose`.
        prefix: Begins every key, so that deployments can share a server.
        connect_timeout_s: Until Redis has accepted the credentials.
        call_timeout_s: Of one round trip.
        clock: Unix seconds in place of Redis' own time, for tests.

    Raises:
        ValueError: `prefix` has a brace, which would change where a cluster keeps the keys.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        prefix: str = "waypost",
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        call_timeout_s: float = CALL_TIMEOUT_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if "{" in prefix or "}" in prefix:
            raise ValueError("the prefix of Redis keys cannot have braces")
        self._prefix = prefix
        self._clock = clock
        self._link: Link
        if isinstance(client, RedisCluster):
            self._link = ClusterLink(client, call_timeout_s=call_timeout_s)
        else:
            self._link = PipelinedLink(
                client.connection_pool,
                connect_timeout_s=connect_timeout_s,
                call_timeout_s=call_timeout_s,
            )
        self._script = (Path(__file__).parent / "ledger.lua").read_text("utf-8")
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self._abandoned: deque[tuple[str, str]] = deque(maxlen=MAX_ABANDONED)

    async def reserve(self, hold: Hold) -> Granted | Refused:
        """Hold the worst case under every limit, or nothing under any; idempotent by request id.

        A reservation whose reply is lost is released as soon as Redis answers again.

        Raises:
            LedgerUnavailable: Redis cannot be reached or did not answer in time.
            ValueError: The request has ended, or the hold cannot be counted exactly.
        """
        check_hold(hold)
        limits, team_id = hold.limits, hold.limits[0].scope.team_id
        try:
            status, completion, nusd, tokens, first_ms, flat, notices = await self._run(
                "reserve",
                team_id,
                hold.request_id,
                limits,
                round(hold.lease_s * 1000),
                hold.fixed_nusd,
                hold.fixed_tokens,
                hold.completion_nusd_per_mtok,
                hold.min_completion_tokens,
                min(hold.max_completion_tokens, MAX_COMPLETION_TOKENS),
                *[limit.cap for limit in limits],
            )
        except _Ambiguous as error:
            self._abandoned.append((team_id, hold.request_id))
            raise _unavailable() from error
        except asyncio.CancelledError:
            self._abandoned.append((team_id, hold.request_id))
            raise
        if self._abandoned:
            await self._release_abandoned()
        if status == b"ended":
            raise ValueError(f"request {hold.request_id!r} has ended: reserve under a new id")
        standings = _standings(limits, flat)
        unjournaled = tuple(_read_charge(team_id, notice) for notice in notices)
        if status == b"granted":
            return Granted(completion, nusd, tokens, standings, unjournaled)
        refused = refusal(hold, standings, None if first_ms < 0 else first_ms / 1000)
        return Refused(refused.standing, refused.retry_after_s, unjournaled)

    async def renew(self, team_id: str, request_id: str, lease_s: float) -> bool:
        """Extend a lease; False where it has ended."""
        lease_ms = round(lease_s * 1000)
        return bool(await self._run_idempotent("renew", team_id, request_id, (), lease_ms))

    async def settle(
        self, team_id: str, request_id: str, nusd: int, tokens: int, output: int = 0
    ) -> bool:
        """Replace a hold by what was used, in the windows it was held in; idempotent.

        A request that Redis does not know, as after it lost its data, is charged nothing: its
        journal row is what `waypost budgets rebuild` counts.
        """
        charged = await self._run_idempotent(
            "settle", team_id, request_id, (), nusd, tokens, output
        )
        return bool(charged)

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """Read where limits (all of one team) stand."""
        if not limits:
            return ()
        team_id = limits[0].scope.team_id
        return _standings(limits, await self._run_idempotent("standings", team_id, "", limits))

    async def overwrite(self, limit: Limit, spent: int) -> None:
        """Set what was spent in the current window; open leases (`concurrent`) stay as they are."""
        if limit.measure != "concurrent":
            await self._run_idempotent("overwrite", limit.scope.team_id, "", (limit,), spent)

    async def reap(self, team_id: str) -> tuple[UnjournaledCharge, ...]:
        """Charge the team's expired leases, and return some charges not yet acknowledged."""
        notices = await self._run_idempotent("reap", team_id, "", ())
        return tuple(_read_charge(team_id, notice) for notice in notices)

    async def acknowledge(self, team_id: str, kept: Sequence[UnjournaledCharge]) -> None:
        """Stop delivering these charges: their journal rows are on disk."""
        for start in range(0, len(kept), ACKNOWLEDGE_BATCH):
            charges = map(_write_charge, kept[start : start + ACKNOWLEDGE_BATCH])
            await self._run_idempotent("acknowledge", team_id, "", (), *charges)

    async def aclose(self) -> None:
        """Drop the connection; the client's pool stays open."""
        await self._link.reset()

    async def _release_abandoned(self) -> None:
        """Release one reservation whose reply was lost; the others at the next calls."""
        team_id, request_id = self._abandoned.popleft()
        try:
            await self._run("abandon", team_id, request_id, ())
        except (_Ambiguous, LedgerUnavailable):
            self._abandoned.append((team_id, request_id))

    async def _run_idempotent(
        self,
        operation: str,
        team_id: str,
        request_id: str,
        limits: Sequence[Limit],
        *arguments: Argument,
    ) -> Any:
        """Run an operation that may be repeated, so it does not matter whether it ran."""
        try:
            return await self._run(operation, team_id, request_id, limits, *arguments)
        except _Ambiguous as error:
            raise _unavailable() from error

    async def _run(
        self,
        operation: str,
        team_id: str,
        request_id: str,
        limits: Sequence[Limit],
        *arguments: Argument,
    ) -> Any:
        base = f"{{{self._prefix}:{_escaped(team_id)}}}:"
        leases = f"{base}leases".encode()
        keys: list[Argument] = [leases, f"{base}l:{request_id}", f"{base}unjournaled"]
        for limit in limits:
            scope = limit.scope
            keys.append(f"{base}c:{limit.measure}:{limit.window}:{scope.kind}:{scope.id}")
        now = "" if self._clock is None else round(self._clock() * 1000)
        rest: tuple[Argument, ...] = (len(keys), *keys, operation, now, request_id, *arguments)
        try:
            try:
                return await self._link.call(("EVALSHA", self._sha, *rest), leases)
            except ResponseError as error:
                if not _is_unknown_script(error):
                    raise
                return await self._link.call(("EVAL", self._script, *rest), leases)
        except Unreachable as error:
            if error.may_have_run:
                raise _Ambiguous from error
            raise _unavailable() from error
        except ResponseError as error:
            if not str(error).startswith(_TRANSIENT_ERRORS):
                raise
            await self._link.reset()
            raise _unavailable() from error


class _Ambiguous(Exception):
    """The command was sent and no reply came."""


def _unavailable() -> LedgerUnavailable:
    return LedgerUnavailable(
        "Budgets cannot be checked at the moment; try again shortly.",
        retry_after_s=RETRY_AFTER_S,
    )


def _is_unknown_script(error: ResponseError) -> bool:
    return type(error).__name__ == "NoScriptError" or str(error).startswith("NOSCRIPT")


def _escaped(team_id: str) -> str:
    """Keep braces out of the hash tag: a team's keys share it, and no other team's do."""
    return team_id.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def _standings(limits: Sequence[Limit], flat: list[int]) -> tuple[Standing, ...]:
    found = iter(flat)
    return tuple(
        Standing(limit, spent, held, None if resets_ms < 0 else resets_ms / 1000)
        for limit, spent, held, resets_ms in zip(limits, found, found, found, strict=True)
    )


def _write_charge(charge: UnjournaledCharge) -> str:
    """Write a charge as the script does."""
    state = "x" if charge.is_expired else "s"
    return f"{charge.request_id} {state} {charge.nusd} {charge.tokens} {charge.output}"


def _read_charge(team_id: str, written: bytes) -> UnjournaledCharge:
    request_id, state, nusd, tokens, output = written.decode().rsplit(" ", 4)
    return UnjournaledCharge(request_id, team_id, int(nusd), int(tokens), state == "x", int(output))
