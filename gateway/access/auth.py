"""Who sends a request: virtual keys, checked from memory and re-read in the background.

A known key costs no I/O. What is known of all keys is never older than `keys.staleness_s`, so a
revoked key is refused within that time. One look at the database, in the background, reads what
changed since the look before, and the keys that are new here: so neither many keys nor many guesses
make more than one connection busy. Without a database known keys are honoured for
`keys.outage_grace_s`, and unknown ones are refused.
"""

import asyncio
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

from sqlalchemy import Engine, RowMapping, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.access.data_rules import HEADER, DataRules
from gateway.access.keys import KEY_PREFIX, TEAM_CHOICES, digest
from gateway.errors import DependencyUnavailable, Forbidden, Unauthenticated
from gateway.settings.config import KeySettings
from gateway.types import Caller
from migrations.tables import KEY_CHANGES, KEYS, TEAMS

MAX_KNOWN_KEYS = 50_000
MAX_UNKNOWN_IDS = 10_000
MAX_IDS_PER_QUERY = 500
MAX_CHANGES = 5_000
"""If more keys changed between two looks, all known ones are forgotten, to be read when used."""
MAX_KEY_BYTES = 200
RETRY_AFTER_OUTAGE_S = 0.5
NO_DIGEST = digest(secrets.token_bytes(32))
"""What the secret of an unknown key is compared with, so that it takes as long."""
PREFIX = KEY_PREFIX.encode() + b"-"

NO_RULES: Final = DataRules({})

logger = logging.getLogger(__name__)


def credential(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the key a request carries: as a bearer token, ``x-api-key`` or ``api-key``."""
    authorization = headers.get(b"authorization")
    if authorization is not None and PREFIX in authorization:
        return authorization
    # Many clients insist on a bearer token, so that one without meaning is sent beside the key.
    return headers.get(b"x-api-key") or headers.get(b"api-key") or authorization


def declares(authentication: str, dependency: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Mark a FastAPI dependency as the one that authenticates, for `declared_authentication`."""

    @wraps(dependency)
    async def authenticated(*args: Any, **kwargs: Any) -> Any:
        return await dependency(*args, **kwargs)

    authenticated.authentication = authentication  # type: ignore[attr-defined]
    return authenticated


def declared_authentication(route: Any) -> str | None:
    """Return what the route says of its authentication, such as ``key`` or ``public``.

    It says so by an attribute `authentication` of its endpoint, or of one of its dependencies (see
    `declares`); None if by neither, which a test must refuse.
    """
    calls = [getattr(route, "endpoint", None)]
    dependants = [getattr(route, "dependant", None)]
    while dependants:
        dependant = dependants.pop()
        if dependant is not None:
            calls.append(dependant.call)
            dependants.extend(dependant.dependencies)
    declared = [getattr(call, "authentication", None) for call in calls]
    return next((name for name in declared if name is not None), None)


@dataclass(frozen=True, slots=True)
class _KnownKey:
    """What the database said of a key; times are Unix time.

    Attributes:
        caller: Why there is none, where the settings lack a data rule that holds for the key.
    """

    caller: Caller | Forbidden
    secret_sha256: bytes
    previous_sha256: bytes
    previous_until_unix_s: float
    expires_at_unix_s: float
    is_revoked: bool


@dataclass(frozen=True, slots=True)
class _Changes:
    """How far the changes of keys were read; see `migrations.tables.KEY_CHANGES`."""

    version: int = 0
    deletions: int = 0

    def takes_back(self, before: "_Changes") -> bool:
        """Whether keys that were read `before` may be gone: deleted, or of another database."""
        return self.deletions != before.deletions or self.version < before.version


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at the database found.

    Attributes:
        keys: Those that were asked for, and those that changed.
        forgets: All other keys must be read again.
    """

    changes: _Changes
    keys: Mapping[str, _KnownKey]
    forgets: bool


class Authenticator:
    """Turns credentials into callers; for one event loop."""

    def __init__(
        self,
        engine: Engine,
        settings: KeySettings,
        rules: DataRules = NO_RULES,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._staleness_s = settings.staleness_s
        self._grace_s = settings.outage_grace_s
        self._clock = clock
        self._monotonic = monotonic
        self._read_timeout_s = settings.read_timeout_s
        self._known: OrderedDict[str, _KnownKey] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._changes: _Changes | None = None
        self._looked_at_s = float("-inf")
        self._is_down = False
        self._retry_at_s = 0.0
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="keys")

    def close(self) -> None:
        """Let go of the threads; a read that hangs is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Return who sends a request, under all data rules that hold for it.

        Raises:
            Unauthenticated, Forbidden, DependencyUnavailable: As `authenticate` does.
            InvalidRequest: The request asks for a data rule that there is not.
        """
        caller = await self.authenticate(credential(headers))
        return self._rules.add(caller, headers.get(HEADER))

    async def authenticate(self, credential: bytes | None) -> Caller:
        """Return who sends `credential`, a key with or without ``Bearer`` before it.

        Raises:
            Unauthenticated: The key is missing, malformed, unknown, revoked or expired.
            Forbidden: It is held to a data rule that the settings do not have.
            DependencyUnavailable: It cannot be checked because the database is down.
        """
        key_id, secret = _split(credential)
        known = self._known.get(key_id)
        age_s = self._monotonic() - self._looked_at_s
        if known is None or age_s >= self._staleness_s:
            known = await self._read_again(key_id, known)
        elif age_s >= self._staleness_s / 2 and not self._waiting:
            self._request_read(key_id)
        matches = self._matches(known, secret)
        if known is not None and not matches and self._may_be_outdated():
            # The key may just have been given a new secret.
            known = await self._read_again(key_id, known)
            matches = self._matches(known, secret)
        if known is None or not matches:
            raise Unauthenticated(
                "The API key is unknown or its secret is wrong. Check the key that you send."
            )
        if known.is_revoked:
            raise Unauthenticated(
                "The API key was revoked. Ask the gateway's operator for a new one."
            )
        if self._clock() >= known.expires_at_unix_s:
            raise Unauthenticated(
                "The API key has expired. Ask the gateway's operator for a new one."
            )
        if isinstance(known.caller, Forbidden):
            raise Forbidden(known.caller.message)
        return known.caller

    def _matches(self, known: _KnownKey | None, secret: bytes) -> bool:
        given = digest(secret)
        if known is None:
            hmac.compare_digest(given, NO_DIGEST)
            return False
        if hmac.compare_digest(given, known.secret_sha256):
            return True
        is_previous = hmac.compare_digest(given, known.previous_sha256)
        return is_previous and self._clock() < known.previous_until_unix_s

    def _may_be_outdated(self) -> bool:
        """Bound how often wrong secrets for known ids make the database be asked."""
        return self._monotonic() - self._looked_at_s >= self._staleness_s / 4

    async def _read_again(self, key_id: str, known: _KnownKey | None) -> _KnownKey | None:
        """Ask the database, unless it was just asked in vain; fall back on what is known.

        Raises:
            DependencyUnavailable: The database is down and the grace of the key is over.
        """
        now = self._monotonic()
        unknown_since = self._unknown.get(key_id)
        if unknown_since is not None and now - unknown_since < self._staleness_s:
            return None
        is_recent = now - self._looked_at_s < self._staleness_s + self._grace_s
        has_grace = known is not None and is_recent
        read = self._request_read(key_id)
        if self._is_down and has_grace:
            return known  # without waiting for a database that may hang
        await asyncio.shield(read)
        if not self._is_down:
            return self._known.get(key_id)
        if has_grace:
            return known
        raise DependencyUnavailable(
            "The API key cannot be checked because the gateway's database is down. Try again.",
            retry_after_s=RETRY_AFTER_OUTAGE_S,
        )

    def _request_read(self, key_id: str) -> asyncio.Future[None]:
        """Have the key read with the next look; the future ends when that has ended."""
        future = self._waiting.get(key_id)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if self._is_down and self._monotonic() < self._retry_at_s:
                future.set_result(None)
                return future
            self._waiting[key_id] = future
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read_waiting())
        return future

    async def _read_waiting(self) -> None:
        """Look at the database, once at a time, until no key is waited for."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            ids = list(self._waiting)[:MAX_IDS_PER_QUERY]
            futures = [self._waiting.pop(key_id) for key_id in ids]
            began_s = self._monotonic()
            try:
                async with asyncio.timeout(self._read_timeout_s):
                    look = await loop.run_in_executor(self._threads, self._look, ids, self._changes)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                self._is_down = True
                self._retry_at_s = self._monotonic() + RETRY_AFTER_OUTAGE_S
                logger.warning("keys cannot be read from the database: %s", type(error).__name__)
            else:
                self._is_down = False
                self._keep(ids, look, began_s)
            finally:
                for future in futures:
                    future.set_result(None)

    def _look(self, ids: list[str], since: _Changes | None) -> _Look:
        """Read the keys `ids`, and all others that changed `since`."""
        with self._engine.connect() as connection:
            row = connection.execute(select(KEY_CHANGES)).first()
            changes = _Changes() if row is None else _Changes(row.version, row.deletions)
            # What is committed from here on has a higher number, so the next look sees it again.
            rows = connection.execute(_KEYS.where(KEYS.c.id.in_(ids))).mappings().all()
            forgets = since is not None and changes.takes_back(since)
            if since is not None and changes.version > since.version:
                changed = _KEYS.where(KEYS.c.version > since.version).limit(MAX_CHANGES + 1)
                found = connection.execute(changed).mappings().all()
                rows, forgets = [*rows, *found], forgets or len(found) > MAX_CHANGES
        keys = {row["id"]: _known_key(row, self._caller_of(row)) for row in rows}
        return _Look(changes, keys, forgets)

    def _caller_of(self, row: RowMapping) -> Caller | Forbidden:
        allowed = row["allowed_models"]
        caller = Caller(
            key_id=row["id"],
            team_id=row["team_id"],
            allowed_models=None if allowed is None else frozenset(allowed),
            profile=row["profile"],
            **{name: row[name] for name in TEAM_CHOICES},
        )
        try:
            return self._rules.hold(caller, (row[_OF_TEAM], row["data_rule"]))
        except Forbidden as error:
            return error

    def _keep(self, ids: Iterable[str], look: _Look, began_s: float) -> None:
        if look.forgets:
            self._known.clear()
        for key_id in ids:
            if key_id not in look.keys:
                self._known.pop(key_id, None)
                self._unknown[key_id] = began_s
        asked = set(ids)
        for key_id, known in look.keys.items():
            if key_id in asked or key_id in self._known:
                self._known[key_id] = known
            self._unknown.pop(key_id, None)
        self._changes, self._looked_at_s = look.changes, began_s
        _bound(self._known, MAX_KNOWN_KEYS)
        _bound(self._unknown, MAX_UNKNOWN_IDS)


def _split(credential: bytes | None) -> tuple[str, bytes]:
    """Take ``[Bearer ]wp-<id>-<secret>`` apart.

    Raises:
        Unauthenticated: It has another form.
    """
    if not credential:
        raise Unauthenticated("No API key was sent. Send 'Authorization: Bearer wp-...'.")
    if credential[:7].lower() == b"bearer ":
        credential = credential[7:].strip()
    key_id, separator, secret = credential.removeprefix(PREFIX).partition(b"-")
    if (
        not separator
        or not credential.startswith(PREFIX)
        or not key_id.isalnum()
        or len(credential) > MAX_KEY_BYTES
    ):
        raise Unauthenticated(
            "The API key is malformed. A key of this gateway has the form wp-<id>-<secret>."
        )
    return key_id.decode("ascii"), secret


_OF_TEAM: Final = "data_rule_of_team"


_KEYS: Final = select(
    KEYS, *(TEAMS.c[name] for name in TEAM_CHOICES), TEAMS.c.data_rule.label(_OF_TEAM)
).join(TEAMS, TEAMS.c.id == KEYS.c.team_id)


def _known_key(row: RowMapping, caller: Caller | Forbidden) -> _KnownKey:
    previous_until = row["previous_valid_until"]
    expires_at = row["expires_at"]
    return _KnownKey(
        caller=caller,
        secret_sha256=row["secret_sha256"],
        previous_sha256=row["previous_secret_sha256"] or NO_DIGEST,
        previous_until_unix_s=0.0 if previous_until is None else previous_until.timestamp(),
        expires_at_unix_s=float("inf") if expires_at is None else expires_at.timestamp(),
        is_revoked=row["revoked_at"] is not None,
    )


def _bound(entries: OrderedDict[str, Any], max_entries: int) -> None:
    while len(entries) > max_entries:
        entries.popitem(last=False)
