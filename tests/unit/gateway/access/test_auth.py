import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from gateway.access import auth
from gateway.access.auth import Authenticator, credential, declared_authentication, declares
from gateway.access.keys import KeyStore, NewKey
from gateway.errors import DependencyUnavailable, Unauthenticated
from gateway.settings.config import KeySettings
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until

SETTINGS = KeySettings(read_timeout_s=PATIENCE_S, staleness_s=10, outage_grace_s=100)


class Clock:
    """Both clocks: Unix time and monotonic time are the same here."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Database:
    """The real one, with a count of the looks at it and a switch."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.looks = 0
        self.is_up = True
        event.listen(engine, "before_cursor_execute", self._count)

    def _count(self, connection, cursor, statement: str, *rest) -> None:
        self.looks += "FROM key_changes" in statement or not self.is_up
        if not self.is_up:
            raise OperationalError("SELECT", {}, Exception("down"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> KeyStore:
    store = KeyStore(engine, now=lambda: datetime.fromtimestamp(clock(), UTC))
    store.create_team("blue", logs_text=True)
    return store


@pytest.fixture
def new_key(store: KeyStore):
    return store.create_key("blue", "k", allowed_models=["small"], profile="economy")


@pytest.fixture
def key(new_key: NewKey) -> bytes:
    return new_key.secret.get_secret_value().encode()


@pytest.fixture
def database(engine: Engine, key: bytes) -> Database:
    return Database(engine)


@pytest.fixture
def authenticator(database: Database, clock: Clock):
    authenticator = Authenticator(database.engine, SETTINGS, clock=clock, monotonic=clock)
    yield authenticator
    authenticator.close()


async def test_a_key_says_who_calls(authenticator, key, new_key):
    caller = await authenticator.authenticate(b"Bearer " + key)

    assert (caller.key_id, caller.team_id) == (new_key.info.id, "blue")
    assert (caller.allowed_models, caller.profile) == (frozenset({"small"}), "economy")
    assert caller.logs_text
    assert not caller.is_judged


@pytest.mark.parametrize("form", [b"%b", b"bearer %b", b"Bearer   %b ", b"BEARER %b"])
async def test_a_key_is_taken_with_and_without_its_scheme(authenticator, key, form):
    assert await authenticator.authenticate(form % key)


async def test_a_key_for_all_models_allows_all(authenticator, store):
    key = store.create_key("blue", "all").secret.get_secret_value().encode()

    assert (await authenticator.authenticate(key)).allowed_models is None


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"Bearer ",
        b"sk-0123456789ab-secret",
        b"wp-",
        b"wp-abc",
        b"wp--secret",
        b"wp-a.b-secret",
        b"wp-\xff-secret",
        b"Basic dXNlcjpwYXNz",
        b"wp-abc-" + b"x" * 500,
    ],
)
async def test_what_is_no_key_is_refused_without_asking_the_database(
    authenticator, database, given
):
    with pytest.raises(Unauthenticated, match=r"wp-"):
        await authenticator.authenticate(given)

    assert database.looks == 0


async def test_a_known_key_is_asked_for_once(authenticator, database, key):
    for _ in range(100):
        await authenticator.authenticate(key)

    assert database.looks == 1


async def test_requests_that_come_together_share_one_query(authenticator, database, store):
    keys = [store.create_key("blue", str(n)).secret.get_secret_value().encode() for n in range(20)]
    database.looks = 0

    await asyncio.gather(*(authenticator.authenticate(key) for key in keys * 5))

    assert database.looks <= 2


async def test_a_wrong_secret_is_refused_from_memory(authenticator, database, key):
    await authenticator.authenticate(key)

    for _ in range(100):
        with pytest.raises(Unauthenticated, match="unknown or its secret is wrong"):
            await authenticator.authenticate(key[:-1] + b"!")

    assert database.looks == 1


async def test_an_unknown_id_is_asked_for_once(authenticator, database):
    for _ in range(100):
        with pytest.raises(Unauthenticated, match="unknown or its secret is wrong"):
            await authenticator.authenticate(b"wp-0123456789ab-secret")

    assert database.looks == 1


async def test_a_storm_of_guesses_costs_few_queries_and_little_memory(
    authenticator, database, monkeypatch
):
    monkeypatch.setattr(auth, "MAX_UNKNOWN_IDS", 50)
    guesses = [authenticator.authenticate(b"wp-%012x-secret" % n) for n in range(2000)]

    answers = await asyncio.gather(*guesses, return_exceptions=True)

    assert {type(answer) for answer in answers} == {Unauthenticated}
    assert database.looks <= 2000 / auth.MAX_IDS_PER_QUERY + 1
    assert len(authenticator._unknown) == 50


async def test_a_key_made_after_it_was_asked_for_works_once_the_memory_is_stale(
    authenticator, clock, store, monkeypatch
):
    monkeypatch.setattr("gateway.access.keys.secrets.token_hex", lambda size: "0123456789ab")
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(b"wp-0123456789ab-secret")
    key = store.create_key("blue", "k").secret.get_secret_value().encode()
    clock.now_s += 10

    assert await authenticator.authenticate(key)


async def test_a_revoked_key_is_refused_within_the_staleness(
    authenticator, clock, store, key, new_key
):
    await authenticator.authenticate(key)
    store.revoke_key(new_key.info.id)
    assert await authenticator.authenticate(key)

    clock.now_s += 10
    with pytest.raises(Unauthenticated, match="revoked"):
        await authenticator.authenticate(key)


async def test_a_key_in_use_is_read_again_before_it_is_stale(
    authenticator, database, clock, store, key, new_key
):
    await authenticator.authenticate(key)
    store.update_key(new_key.info.id, profile="quality")
    clock.now_s += 6
    before = database.looks
    assert (await authenticator.authenticate(key)).profile == "economy"

    await until(lambda: database.looks > before)
    await asyncio.wait_for(authenticator._reader, PATIENCE_S)
    assert (await authenticator.authenticate(key)).profile == "quality"


async def test_an_expired_key_is_refused_at_once(authenticator, clock, store):
    expiry = datetime.fromtimestamp(clock() + 5, UTC)
    key = store.create_key("blue", "k", expires_at=expiry).secret.get_secret_value().encode()
    await authenticator.authenticate(key)

    clock.now_s += 5
    with pytest.raises(Unauthenticated, match="expired"):
        await authenticator.authenticate(key)


async def test_a_rotated_key_works_with_both_secrets_for_a_while(
    authenticator, clock, store, key, new_key
):
    await authenticator.authenticate(key)
    rotated = store.rotate_key(new_key.info.id, overlap=timedelta(seconds=30))
    new = rotated.secret.get_secret_value().encode()

    clock.now_s += 3
    assert await authenticator.authenticate(new)
    assert await authenticator.authenticate(key)
    clock.now_s += 30
    assert await authenticator.authenticate(new)
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(key)


async def test_wrong_secrets_make_the_database_be_asked_now_and_then_only(
    authenticator, database, clock, key
):
    await authenticator.authenticate(key)
    clock.now_s += 3
    for _ in range(50):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(key[:-1] + b"!")

    assert database.looks == 2


async def test_known_keys_are_honoured_for_a_while_without_a_database(
    authenticator, database, clock, key
):
    await authenticator.authenticate(key)
    database.is_up = False

    for _ in range(5):
        clock.now_s += 20
        assert await authenticator.authenticate(key)
    clock.now_s += 20
    with pytest.raises(DependencyUnavailable, match="cannot be checked") as refusal:
        await authenticator.authenticate(key)
    assert refusal.value.retry_after_s is not None

    database.is_up = True
    clock.now_s += 1
    assert await authenticator.authenticate(key)


async def test_without_a_database_unknown_keys_are_refused_and_it_is_seldom_asked(
    authenticator, database, clock
):
    database.is_up = False
    for _ in range(100):
        with pytest.raises(DependencyUnavailable, match="cannot be checked"):
            await authenticator.authenticate(b"wp-0123456789ab-secret")

    assert database.looks == 1


async def test_known_keys_do_not_wait_for_a_database_that_hangs(database, clock, key, monkeypatch):
    authenticator = Authenticator(database.engine, SETTINGS, clock=clock, monotonic=clock)
    await authenticator.authenticate(key)
    authenticator._read_timeout_s = 0.01
    released = threading.Event()
    monkeypatch.setattr(
        Authenticator, "_look", lambda *arguments: released.wait(PATIENCE_S) and None
    )
    try:
        clock.now_s += 20
        assert await authenticator.authenticate(key)
        authenticator._read_timeout_s = PATIENCE_S
        clock.now_s += 1
        async with asyncio.timeout(PATIENCE_S):
            assert await authenticator.authenticate(key)
    finally:
        released.set()
        authenticator.close()


async def test_a_request_that_is_cancelled_does_not_cancel_the_others(authenticator, key):
    first = asyncio.create_task(authenticator.authenticate(key))
    second = asyncio.create_task(authenticator.authenticate(key))
    await asyncio.sleep(0)
    first.cancel()

    assert await second
    await asyncio.wait([first])
    assert first.cancelled()


async def test_no_more_keys_are_remembered_than_allowed(authenticator, store, monkeypatch):
    monkeypatch.setattr(auth, "MAX_KNOWN_KEYS", 3)
    for number in range(5):
        new = store.create_key("blue", str(number)).secret.get_secret_value()
        await authenticator.authenticate(new.encode())

    assert len(authenticator._known) == 3


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({b"authorization": b"Bearer a"}, b"Bearer a"),
        ({b"authorization": b"Bearer a", b"x-api-key": b"b"}, b"b"),
        ({b"authorization": b"Bearer wp-a", b"x-api-key": b"b"}, b"Bearer wp-a"),
        ({b"x-api-key": b"b", b"api-key": b"c"}, b"b"),
        ({b"api-key": b"c"}, b"c"),
    ],
)
def test_the_credential_is_found_in_any_of_three_headers(headers, expected):
    assert credential(headers) == expected


async def _nobody() -> str:
    return "nobody"


class _Endpoint:
    authentication = "key"


class _Mounted:
    endpoint = _Endpoint()


def test_a_route_declares_its_authentication_by_endpoint_or_dependency():
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def outer(inner: str = Depends(declares("admin", _nobody))) -> str:
        return inner

    app.get("/nested", dependencies=[Depends(outer)])(lambda: None)
    app.get("/bare")(lambda: None)
    routes = cast("list[APIRoute]", app.routes)
    found = {route.path: declared_authentication(route) for route in routes}

    assert found == {"/nested": "admin", "/bare": None}
    assert declared_authentication(_Mounted()) == "key"


async def test_a_marked_dependency_still_does_its_work():
    assert await declares("public", _nobody)() == "nobody"
