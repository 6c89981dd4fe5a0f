"""Budgets as operators define them: in the database, validated, with a revision per change.

A definition caps one measure in one window: of a team, of one key, end user or conversation of it,
or, as a default, of every such scope (of one team, or of all teams). Where several fit, the
narrowest counts: the scope's own, then the team's default, then the default of all teams.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, get_args

from sqlalchemy import Connection, Engine, RowMapping, func, insert, select, update

from budget.ledger.types import Measure, Scope, ScopeKind, Window
from gateway.access.keys import MAX_PAGE, utc_now
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.storage.database import writing
from migrations.tables import BUDGETS, KEYS, TEAMS

MAX_CAP = 2**53 - 1
"""About 9 million USD; what Redis' numbers hold exactly."""
MAX_SCOPE_ID_CHARS = 512
POSTGRES_LOCK = 0x77616262
"""Key of the advisory lock that gives revisions in the order of their commits ("wabb")."""
SCOPE_KINDS: tuple[ScopeKind, ...] = get_args(ScopeKind)
MEASURES: tuple[Measure, ...] = get_args(Measure)
WINDOWS: tuple[Window, ...] = get_args(Window)
ANONYMOUS_KINDS = frozenset({"user", "conversation"})
"""Kinds whose ids come from callers; counters and the journal know their digests only."""


@dataclass(frozen=True, slots=True)
class BudgetDefinition:
    """One cap.

    Attributes:
        team_id: None in a default for all teams.
        scope_id: A key's id, or a caller's own name of a user or conversation; None for the team
            itself, and in a default for every scope of the kind.
        cap: In the measure's unit: nano-USD, tokens, requests, or open requests.
    """

    id: str
    team_id: str | None
    scope: ScopeKind
    scope_id: str | None
    measure: Measure
    window: Window
    cap: int
    created_at: datetime
    updated_at: datetime

    def counted_scope(self) -> Scope | None:
        """Return the scope its counter belongs to; None where every scope has its own."""
        if self.team_id is None:
            return None
        if self.scope == "team":
            return Scope(self.team_id, "team")
        if self.scope_id is None:
            return None
        return scope_of(self.team_id, self.scope, self.scope_id)


@dataclass(frozen=True, slots=True)
class Change:
    """One definition as of a revision; `is_deleted` where it no longer holds."""

    revision: int
    definition: BudgetDefinition
    is_deleted: bool


def scope_of(team_id: str, kind: ScopeKind, name: str) -> Scope:
    """Name a scope of the team as counters do: users and conversations by digest."""
    if kind in ANONYMOUS_KINDS:
        name = scope_digest(team_id, kind, name)
    return Scope(team_id, kind, name)


def scope_digest(team_id: str, kind: str, name: str) -> str:
    """Hash a caller's name of a user or conversation; the same name differs between teams."""
    content = f"{team_id}\0{kind}\0{name}".encode("utf-8", "surrogatepass")
    return blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class BudgetDefinitions:
    """The definitions; every method asks the database, so call it off the event loop."""

    engine: Engine
    now: Callable[[], datetime] = utc_now

    def create(
        self,
        *,
        team_id: str | None,
        scope: ScopeKind,
        scope_id: str | None,
        measure: Measure,
        window: Window,
        cap: int,
    ) -> BudgetDefinition:
        """Add a budget; gateways follow within two seconds.

        Raises:
            InvalidRequest: It makes no sense.
            Conflict: It exists already.
            NotFound: There is no such team, or no such key in it.
        """
        moment = self.now()
        identity = (team_id, scope, scope_id, measure, window)
        new = BudgetDefinition(_id(*identity), *identity, cap, moment, moment)
        check_definition(new)
        values = {name: getattr(new, name) for name in BudgetDefinition.__slots__}
        with writing(self.engine) as connection:
            revision = _next_revision(connection)
            _check_scope(connection, new)
            known = connection.execute(select(BUDGETS).where(BUDGETS.c.id == new.id)).first()
            if known is None:
                connection.execute(insert(BUDGETS).values(**values, revision=revision))
            elif known.deleted_at is None:
                raise Conflict(f"budget {new.id} limits this already; change its cap instead")
            else:
                connection.execute(
                    update(BUDGETS)
                    .where(BUDGETS.c.id == new.id)
                    .values(**values, revision=revision, deleted_at=None)
                )
        return new

    def budget(self, budget_id: str) -> BudgetDefinition:
        """Return one budget.

        Raises:
            NotFound: There is no such budget.
        """
        with self.engine.connect() as connection:
            return _require(connection, budget_id)

    def budgets(
        self,
        *,
        team_id: str | None = None,
        scope: ScopeKind | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[BudgetDefinition]:
        """List budgets by id, beginning after the id `after`.

        Args:
            team_id: Only this team's; defaults of all teams are left out.
            scope: Only this kind's.
        """
        query = select(BUDGETS).where(BUDGETS.c.deleted_at.is_(None)).order_by(BUDGETS.c.id)
        query = query.limit(max(1, min(limit, MAX_PAGE)))
        if team_id is not None:
            query = query.where(BUDGETS.c.team_id == team_id)
        if scope is not None:
            query = query.where(BUDGETS.c.scope == scope)
        if after is not None:
            query = query.where(BUDGETS.c.id > after)
        with self.engine.connect() as connection:
            return [_definition(row) for row in connection.execute(query).mappings()]

    def set_cap(self, budget_id: str, cap: int) -> BudgetDefinition:
        """Raise (or lower) a cap; what was spent stays spent.

        Raises:
            InvalidRequest: The cap is out of range.
            NotFound: There is no such budget.
        """
        with writing(self.engine) as connection:
            revision = _next_revision(connection)
            changed = replace(_require(connection, budget_id), cap=cap, updated_at=self.now())
            check_definition(changed)
            connection.execute(
                update(BUDGETS)
                .where(BUDGETS.c.id == budget_id)
                .values(cap=cap, updated_at=changed.updated_at, revision=revision)
            )
        return changed

    def delete(self, budget_id: str) -> BudgetDefinition:
        """Lift a budget.

        Raises:
            NotFound: There is no such budget.
        """
        with writing(self.engine) as connection:
            revision = _next_revision(connection)
            gone = _require(connection, budget_id)
            connection.execute(
                update(BUDGETS)
                .where(BUDGETS.c.id == budget_id)
                .values(deleted_at=self.now(), revision=revision)
            )
        return gone

    def delete_of_team(self, team_id: str) -> None:
        """Lift all budgets of a team."""
        while found := self.budgets(team_id=team_id):
            for budget in found:
                self.delete(budget.id)

    def changes(self, since: int, limit: int) -> list[Change]:
        """Return what changed after the revision `since`, oldest first, at most `limit`."""
        query = (
            select(BUDGETS)
            .where(BUDGETS.c.revision > since)
            .order_by(BUDGETS.c.revision)
            .limit(limit)
        )
        with self.engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            Change(row["revision"], _definition(row), row["deleted_at"] is not None) for row in rows
        ]


def check_definition(definition: BudgetDefinition) -> None:
    """Refuse a definition that makes no sense.

    Raises:
        InvalidRequest: With the field at fault and what to write instead.
    """
    for field, value, known in (
        ("scope", definition.scope, SCOPE_KINDS),
        ("measure", definition.measure, MEASURES),
        ("window", definition.window, WINDOWS),
    ):
        if value not in known:
            raise InvalidRequest(
                f"{field}: {value!r} is not one of {', '.join(known)}", param=field
            )
    if not 0 <= definition.cap <= MAX_CAP:
        raise InvalidRequest(f"cap: must be 0 to {MAX_CAP}", param="cap")
    if (definition.measure == "concurrent") != (definition.window == "now"):
        raise InvalidRequest(
            "window: concurrent requests are counted `now`, and nothing else is", param="window"
        )
    if definition.scope == "turn" and (
        definition.measure not in ("nusd", "tokens", "output") or definition.window != "total"
    ):
        raise InvalidRequest(
            "scope: a turn is one request; cap its nusd, tokens or output in `total`", param="scope"
        )
    _check_scope_id(definition)


def _check_scope_id(definition: BudgetDefinition) -> None:
    scope_id = definition.scope_id
    if scope_id is None:
        return
    if definition.scope in ("team", "turn"):
        raise InvalidRequest(f"scope_id: a {definition.scope} has none", param="scope_id")
    if definition.team_id is None:
        raise InvalidRequest(f"team_id: say which team's {definition.scope} it is", param="team_id")
    if not 0 < len(scope_id) <= MAX_SCOPE_ID_CHARS:
        raise InvalidRequest(
            f"scope_id: must have 1 to {MAX_SCOPE_ID_CHARS} characters", param="scope_id"
        )


def _check_scope(connection: Connection, new: BudgetDefinition) -> None:
    """Refuse to cap what is not there: a typing error would look like protection."""
    if new.team_id is None:
        return
    teams = select(TEAMS.c.id).where(TEAMS.c.id == new.team_id)
    if connection.execute(teams).first() is None:
        raise NotFound(f"no team {new.team_id!r}; create it first", param="team_id")
    if new.scope == "key" and new.scope_id is not None:
        keys = select(KEYS.c.id).where(KEYS.c.id == new.scope_id, KEYS.c.team_id == new.team_id)
        if connection.execute(keys).first() is None:
            raise NotFound(f"team {new.team_id!r} has no key {new.scope_id!r}", param="scope_id")


def _id(*identity: str | None) -> str:
    """Derive the id from what makes a budget unique."""
    content = "\0".join("" if part is None else f"={part}" for part in identity)
    return f"bud_{blake2b(content.encode('utf-8', 'replace'), digest_size=10).hexdigest()}"


def _next_revision(connection: Connection) -> int:
    """Take the next revision; until the transaction ends nobody else gets one.

    SQLite's BEGIN IMMEDIATE serialises writers, on Postgres an advisory lock does.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(POSTGRES_LOCK)))
    newest = connection.execute(select(func.max(BUDGETS.c.revision))).scalar()
    return 1 + (newest or 0)


def _require(connection: Connection, budget_id: str) -> BudgetDefinition:
    query = select(BUDGETS).where(BUDGETS.c.id == budget_id, BUDGETS.c.deleted_at.is_(None))
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"no budget {budget_id!r}; `waypost budgets list` shows them")
    return _definition(row)


def _definition(row: RowMapping) -> BudgetDefinition:
    fields: dict[str, Any] = {name: row[name] for name in BudgetDefinition.__slots__}
    return BudgetDefinition(**fields)
