"""How a gateway learns of changes: by one look for all keys, on both databases."""

from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from sqlalchemy import Engine, event, text

from gateway.access import auth
from gateway.access.auth import Authenticator
from gateway.access.keys import KeyStore, NewKey
from gateway.errors import Unauthenticated
from gateway.settings.config import KeySettings
from gateway.storage.database import create_database_engine
from tests.fakes.patience import PATIENCE_S
from tests.fakes.schemas import with_schema

STALENESS_S = 10.0


class Gateway:
    """An authenticator whose clock is moved by hand, with what it read from the database."""

    def __init__(self, engine: Engine) -> None:
        self.now_s = 1_000_000.0
        self.read: list[str] = []
        settings = KeySettings(read_timeout_s=PATIENCE_S, staleness_s=STALENESS_S)
        self.authenticator = Authenticator(engine, settings, monotonic=lambda: self.now_s)
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, connection, cursor, statement: str, *rest) -> None:
        if statement.startswith("SELECT"):
            self.read.append(statement)

    async def allows(self, key: NewKey) -> bool:
        try:
            await self.authenticator.authenticate(key.secret.get_secret_value().encode())
        except Unauthenticated:
            return False
        return True

    async def profile(self, key: NewKey) -> str | None:
        secret = key.secret.get_secret_value().encode()
        return (await self.authenticator.authenticate(secret)).profile

    def wait_until_stale(self) -> None:
        self.now_s += STALENESS_S


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_database_engine(database_url)
    with_schema(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> KeyStore:
    store = KeyStore(engine)
    store.create_team("blue")
    return store


@pytest.fixture
def keys(store: KeyStore) -> list[NewKey]:
    return [store.create_key("blue", str(number), profile="economy") for number in range(3)]


@pytest.fixture
async def gateway(engine: Engine, keys: list[NewKey]):
    gateway = Gateway(engine)
    for key in keys:
        assert await gateway.allows(key)
    gateway.read.clear()
    yield gateway
    gateway.authenticator.close()


async def test_one_look_keeps_all_keys_fresh(gateway: Gateway, keys: list[NewKey]):
    gateway.wait_until_stale()

    assert [await gateway.allows(key) for key in keys] == [True] * 3

    assert len(gateway.read) == 2
    assert "FROM key_changes" in gateway.read[0]


async def test_a_change_is_seen_whichever_key_is_used_first(
    gateway: Gateway, store: KeyStore, keys: list[NewKey]
):
    store.update_key(keys[1].info.id, profile="quality")
    store.revoke_key(keys[2].info.id)
    gateway.wait_until_stale()

    assert await gateway.profile(keys[0]) == "economy"
    read = len(gateway.read)
    assert await gateway.profile(keys[1]) == "quality"
    assert not await gateway.allows(keys[2])
    assert len(gateway.read) == read


async def test_a_change_of_a_team_reaches_all_its_keys(
    gateway: Gateway, store: KeyStore, keys: list[NewKey]
):
    store.update_team("blue", is_judged=True)
    gateway.wait_until_stale()

    secrets = [key.secret.get_secret_value().encode() for key in keys]
    assert [(await gateway.authenticator.authenticate(each)).is_judged for each in secrets] == [
        True
    ] * 3


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE keys SET revoked_at = created_at WHERE id = '{id}'",
        "UPDATE keys SET expires_at = created_at WHERE id = '{id}'",
        "DELETE FROM keys WHERE id = '{id}'",
        # An older copy of the database came in its place.
        "UPDATE keys SET revoked_at = created_at; DELETE FROM key_changes",
    ],
)
async def test_what_an_operator_changes_by_sql_is_seen(
    gateway: Gateway, engine: Engine, keys: list[NewKey], change: str
):
    with engine.begin() as connection:
        for statement in change.format(id=keys[1].info.id).split(";"):
            connection.execute(text(statement))
    gateway.wait_until_stale()
    await gateway.allows(keys[0])

    assert not await gateway.allows(keys[1])


async def test_that_a_key_was_used_is_no_change(
    gateway: Gateway, engine: Engine, keys: list[NewKey]
):
    with engine.begin() as connection:
        before = connection.execute(text("SELECT version FROM key_changes")).scalar_one()
        connection.execute(text("UPDATE keys SET last_used_at = created_at"))
        assert connection.execute(text("SELECT version FROM key_changes")).scalar_one() == before


async def test_many_changes_at_once_cost_one_bounded_look(
    gateway: Gateway, store: KeyStore, keys: list[NewKey], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(auth, "MAX_CHANGES", 1)
    for key in keys:
        store.update_key(key.info.id, profile="quality")
    gateway.wait_until_stale()

    assert [await gateway.profile(key) for key in keys] == ["quality"] * 3


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_change_that_is_committed_late_is_not_overlooked(
    gateway: Gateway, engine: Engine, store: KeyStore, keys: list[NewKey]
):
    """Were the numbers given without a lock, the second would be read and the first never."""
    revoke: Callable[[str], str] = "UPDATE keys SET revoked_at = created_at WHERE id = '{}'".format
    with engine.connect() as late:
        late.execute(text(revoke(keys[1].info.id)))
        other = Thread(target=store.revoke_key, args=(keys[2].info.id,))
        other.start()
        other.join(timeout=0.2)
        gateway.wait_until_stale()
        await gateway.allows(keys[0])
        late.commit()
    other.join()
    gateway.wait_until_stale()
    await gateway.allows(keys[0])

    assert not await gateway.allows(keys[1])
    assert not await gateway.allows(keys[2])
