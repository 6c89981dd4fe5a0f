"""Teams and virtual keys in the database: create, change, revoke, rotate.

A key reads ``wp-<id>-<secret>``. Only the SHA-256 of the secret is stored. A slow hash as for
passwords would add nothing: the secret is 256 random bits, so whoever steals the table cannot guess
it, and a slow hash on the request path would let anybody keep the gateway busy.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, Engine, RowMapping, Select, insert, select, update

from gateway.access.kept import count_kept, forget_exchanges, forget_responses
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.settings.config import ConfigurationError
from gateway.storage.database import one_start_at_a_time, writing
from migrations.tables import KEYS, TEAMS

KEY_PREFIX = "wp"
SECRET_BYTES = 32
FIRST_TEAM = "default"
MAX_PAGE = 500
TEAM_CHOICES = ("logs_text", "trains_reasoner", "is_judged", "stores_responses")
"""What a team opts in to."""
TEAM_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_CHANGEABLE = frozenset({"name", "allowed_models", "profile", "data_rule", "expires_at"})
_TEAMS = select(*(column for column in TEAMS.c if column.name != "deleted_at")).where(
    TEAMS.c.deleted_at.is_(None)
)
KEY_COLUMNS = [c for c in KEYS.c if not c.name.endswith(("secret_sha256", "version"))]


@dataclass(frozen=True, slots=True)
class TeamInfo:
    """A tenant and what it opted in to, as `migrations.tables.TEAMS` says."""

    id: str
    logs_text: bool
    trains_reasoner: bool
    is_judged: bool
    stores_responses: bool
    created_at: datetime
    data_rule: str | None = None


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A virtual key as an operator sees it, without its secret.

    Attributes:
        previous_valid_until: After a rotation, how long the secret before it is honoured.
        allowed_models: None means all.
        data_rule: Name of the rule in the settings that its data is held to.
        last_used_at: Exact to a minute.
    """

    id: str
    team_id: str
    name: str
    allowed_models: list[str] | None
    profile: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    previous_valid_until: datetime | None
    last_used_at: datetime | None
    data_rule: str | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key with its secret, which cannot be shown again."""

    info: KeyInfo
    secret: SecretStr


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class KeyStore:
    """Teams and keys; every method asks the database, so call it off the event loop."""

    engine: Engine
    now: Callable[[], datetime] = utc_now

    def create_team(
        self,
        team_id: str,
        *,
        logs_text: bool = False,
        trains_reasoner: bool = False,
        is_judged: bool = False,
        stores_responses: bool = False,
        data_rule: str | None = None,
    ) -> TeamInfo:
        """Add a team.

        Raises:
            InvalidRequest: The id is malformed.
            Conflict: It is taken.
        """
        if not TEAM_ID.fullmatch(team_id):
            raise InvalidRequest(
                f"team id {team_id[:80]!r}: must be 1 to 63 lower-case letters, digits, - or _",
                param="id",
            )
        chosen = (logs_text, trains_reasoner, is_judged, stores_responses)
        team = TeamInfo(team_id, *chosen, self.now(), data_rule or None)
        with writing(self.engine) as connection:
            known = connection.execute(select(TEAMS.c.deleted_at).where(TEAMS.c.id == team_id))
            if (row := known.first()) is not None:
                state = "exists already" if row.deleted_at is None else "was deleted"
                raise Conflict(f"team {team_id!r} {state}: take another id", param="id")
            connection.execute(insert(TEAMS).values(asdict(team)))
        return team

    def update_team(
        self,
        team_id: str,
        *,
        logs_text: bool | None = None,
        trains_reasoner: bool | None = None,
        is_judged: bool | None = None,
        stores_responses: bool | None = None,
        data_rule: str | None = None,
    ) -> TeamInfo:
        """Change what the team chose; None leaves a choice as it is, an empty rule ends one.

        Where `trains_reasoner` is taken back, the prompts, answers and verifiers kept so far are
        erased; where `stores_responses` is, responses and conversations.

        Raises:
            NotFound: There is no such team.
        """
        given = {
            "logs_text": logs_text,
            "trains_reasoner": trains_reasoner,
            "is_judged": is_judged,
            "stores_responses": stores_responses,
        }
        changes: dict[str, Any] = {n: choice for n, choice in given.items() if choice is not None}
        if data_rule is not None:
            changes["data_rule"] = data_rule or None
        with writing(self.engine) as connection:
            if changes:
                connection.execute(update(TEAMS).where(TEAMS.c.id == team_id).values(changes))
            if trains_reasoner is False:
                forget_exchanges(connection, team_id)
            if stores_responses is False:
                forget_responses(connection, team_id)
        return self.team(team_id)

    def count_erased(self, team_id: str, choices: Mapping[str, bool | None]) -> dict[str, int]:
        """Count by kind what these choices, as of `update_team`, would erase; none for none.

        Raises:
            NotFound: There is no such team.
        """
        self.team(team_id)
        with self.engine.connect() as connection:
            return count_kept(
                connection,
                team_id,
                exchanges=choices.get("trains_reasoner") is False,
                responses=choices.get("stores_responses") is False,
            )

    def team(self, team_id: str) -> TeamInfo:
        """Return one team.

        Raises:
            NotFound: There is no such team.
        """
        with self.engine.connect() as connection:
            team = _team(connection, team_id)
        if team is None:
            raise NotFound(f"no team {team_id!r}")
        return team

    def teams(self, *, after: str | None = None, limit: int = 100) -> list[TeamInfo]:
        """List teams by id, beginning after the id `after`."""
        query = _page(_TEAMS, TEAMS.c.id, after, limit)
        with self.engine.connect() as connection:
            return [TeamInfo(**row) for row in connection.execute(query).mappings()]

    def create_key(
        self,
        team_id: str,
        name: str,
        *,
        allowed_models: Sequence[str] | None = None,
        profile: str | None = None,
        data_rule: str | None = None,
        expires_at: datetime | None = None,
    ) -> NewKey:
        """Add a key to a team; its secret is in the answer and nowhere else.

        Raises:
            NotFound: There is no such team.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        key_id = secrets.token_hex(6)
        with writing(self.engine) as connection:
            if _team(connection, team_id) is None:
                raise NotFound(f"no team {team_id!r}; create it first", param="team_id")
            connection.execute(
                insert(KEYS).values(
                    id=key_id,
                    team_id=team_id,
                    name=name,
                    secret_sha256=digest(secret.encode()),
                    allowed_models=None if allowed_models is None else sorted(set(allowed_models)),
                    profile=profile,
                    data_rule=data_rule or None,
                    created_at=self.now(),
                    expires_at=expires_at,
                )
            )
            return NewKey(_require_key(connection, key_id), _join(key_id, secret))

    def key(self, key_id: str) -> KeyInfo:
        """Return one key.

        Raises:
            NotFound: There is no such key.
        """
        with self.engine.connect() as connection:
            return _require_key(connection, key_id)

    def keys(
        self, *, team_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[KeyInfo]:
        """List keys by id, of one team or all, beginning after the id `after`."""
        query = _page(select(*KEY_COLUMNS), KEYS.c.id, after, limit)
        if team_id is not None:
            query = query.where(KEYS.c.team_id == team_id)
        with self.engine.connect() as connection:
            return [KeyInfo(**row) for row in connection.execute(query).mappings()]

    def update_key(self, key_id: str, **changes: Any) -> KeyInfo:
        """Set `name`, `allowed_models`, `profile`, `data_rule` or `expires_at`.

        Raises:
            NotFound: There is no such key.
        """
        unknown = set(changes) - _CHANGEABLE
        if unknown:
            raise TypeError(f"a key's {', '.join(sorted(unknown))} cannot be changed")
        with writing(self.engine) as connection:
            if changes:
                connection.execute(update(KEYS).where(KEYS.c.id == key_id).values(**changes))
            return _require_key(connection, key_id)

    def revoke_key(self, key_id: str) -> KeyInfo:
        """Revoke a key for good; the gateways follow within `keys.staleness_s`.

        Raises:
            NotFound: There is no such key.
        """
        with writing(self.engine) as connection:
            connection.execute(
                update(KEYS)
                .where(KEYS.c.id == key_id, KEYS.c.revoked_at.is_(None))
                .values(revoked_at=self.now())
            )
            return _require_key(connection, key_id)

    def rotate_key(self, key_id: str, *, overlap: timedelta = timedelta(0)) -> NewKey:
        """Give a key a new secret; the old one is honoured for `overlap`.

        Raises:
            NotFound: There is no such key.
            InvalidRequest: The key is revoked.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        with writing(self.engine) as connection:
            if _require_key(connection, key_id).revoked_at is not None:
                raise InvalidRequest(f"key {key_id} is revoked; create a new one")
            connection.execute(
                update(KEYS)
                .where(KEYS.c.id == key_id)
                .values(
                    previous_secret_sha256=KEYS.c.secret_sha256,
                    previous_valid_until=self.now() + overlap,
                    secret_sha256=digest(secret.encode()),
                )
            )
            return NewKey(_require_key(connection, key_id), _join(key_id, secret))


def digest(secret: bytes) -> bytes:
    """Hash a secret as the table holds it."""
    return hashlib.sha256(secret).digest()


def ensure_first_key(engine: Engine) -> str | None:
    """Make a first team and key where there is no key at all.

    Returns:
        The key, this once, and to one only of several processes that start together.
    """
    store = KeyStore(engine)
    if store.keys(limit=1):
        return None
    with one_start_at_a_time(engine):
        if store.keys(limit=1):
            return None
        with engine.connect() as connection:
            has_team = _team(connection, FIRST_TEAM) is not None
        if not has_team:
            store.create_team(FIRST_TEAM)
        return store.create_key(FIRST_TEAM, "first key").secret.get_secret_value()


def load_admin_token(file: Path) -> SecretStr:
    """Read the admin API's token, or make one that only the owner of `file` can read.

    Raises:
        ConfigurationError: The file cannot be read or written, or holds too short a token.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _create_token(file)
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: the admin token cannot be written: {error}") from error
    if len(token) < 16:
        raise ConfigurationError(
            f"{file}: the admin token is too short; delete the file, and a new one is made"
        )
    return SecretStr(token)


def _create_token(file: Path) -> None:
    """Write a new token unless there is one; complete at once, as another process may read it."""
    if file.exists():
        return
    fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as output:
        output.write(secrets.token_urlsafe(SECRET_BYTES) + "\n")
    try:
        os.link(fresh, file)
    except FileExistsError:
        pass  # another process was quicker; its token counts
    finally:
        fresh.unlink()


def _join(key_id: str, secret: str) -> SecretStr:
    return SecretStr(f"{KEY_PREFIX}-{key_id}-{secret}")


def _team(connection: Connection, team_id: str) -> TeamInfo | None:
    row: RowMapping | None = (
        connection.execute(_TEAMS.where(TEAMS.c.id == team_id)).mappings().first()
    )
    return None if row is None else TeamInfo(**row)


def _require_key(connection: Connection, key_id: str) -> KeyInfo:
    query = select(*KEY_COLUMNS).where(KEYS.c.id == key_id)
    row: RowMapping | None = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"no key {key_id!r}")
    return KeyInfo(**row)


def _page(query: Select[Any], column: Any, after: str | None, limit: int) -> Select[Any]:
    query = query.order_by(column).limit(max(1, min(limit, MAX_PAGE)))
    return query if after is None else query.where(column > after)
