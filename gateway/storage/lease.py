"""Which of several processes does what only one may: a row that expires by the database's clock."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Dialect, Double, Engine, cast, delete, literal_column, or_, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.storage.database import insertion_into, summary, writing
from migrations.tables import LEASES

NOW: Final = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch from clock_timestamp())",
}
"""Unix time by the clock of the database, the one clock that all replicas share."""
RENEWALS: Final = 4
"""Of a lease within its time: some may fail."""

_log = logging.getLogger(__name__)


def name_this_process() -> str:
    """Make a holder's name that no other process has: its host, its number, and now in UTC."""
    return f"{socket.gethostname()}/{os.getpid()}/{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def describe(holder: str) -> str:
    """Say for operators who a holder is."""
    host, number, since = holder.rsplit("/", 2)
    return f"process {number} on host {host}, since {since.partition('.')[0].replace('T', ' ')} UTC"


def has_ended(holder: str) -> bool:
    """Whether a holder cannot run any more: it was this process's predecessor on this host.

    In containers each predecessor often has the same number.
    """
    host, number, _ = holder.rsplit("/", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(number) == os.getpid()


def holders(engine: Engine) -> list[str]:
    """Name the processes that hold a lease of the database now."""
    query = select(LEASES.c.holder).distinct().where(LEASES.c.expires_unix_s > _now(engine.dialect))
    with engine.connect() as connection:
        return [name for name in connection.execute(query).scalars() if not has_ended(name)]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do what only one process may.

    Attributes:
        name: What it is the right to.
        holder: Names this process, and no other.
        ttl_s: A holder that says nothing for so long has lost it.
    """

    engine: Engine
    name: str
    holder: str
    ttl_s: float = 60.0

    def take(self) -> bool:
        """Take the lease, or renew it; returns whether this process has it now."""
        table, dialect = LEASES, self.engine.dialect
        until = _now(dialect) + self.ttl_s
        wanted = insertion_into(table, dialect).values(
            name=self.name, holder=self.holder, expires_unix_s=until
        )
        is_free = or_(table.c.holder == self.holder, table.c.expires_unix_s <= _now(dialect))
        taken = wanted.on_conflict_do_update(
            index_elements=[table.c.name],
            set_={"holder": self.holder, "expires_unix_s": until},
            where=is_free,
        ).returning(table.c.holder)
        with writing(self.engine) as connection:
            return connection.execute(taken).first() is not None

    def current_holder(self) -> str | None:
        """Return who has it; None where nobody does."""
        table = LEASES
        query = select(table.c.holder).where(
            table.c.name == self.name, table.c.expires_unix_s > _now(self.engine.dialect)
        )
        with self.engine.connect() as connection:
            holder: str | None = connection.execute(query).scalar()
            return holder

    def release(self) -> None:
        """Give it back, so that another process need not wait."""
        self.take_from(self.holder)

    def take_from(self, holder: str) -> None:
        """Take it away from a process that does not run any more."""
        table = LEASES
        with writing(self.engine) as connection:
            connection.execute(
                delete(table).where(table.c.name == self.name, table.c.holder == holder)
            )

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew it in a thread for as long as a training takes."""
        is_over = threading.Event()
        thread = threading.Thread(target=self._renew_until, args=(is_over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _renew_until(self, is_over: threading.Event) -> None:
        while not is_over.wait(self.ttl_s / RENEWALS):
            try:
                self.take()
            except SQLAlchemyError as error:
                _log.warning("the lease of the %s was not renewed: %s", self.name, summary(error))


def _now(dialect: Dialect) -> Any:
    return cast(literal_column(NOW[dialect.name]), Double)
