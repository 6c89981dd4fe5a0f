from collections.abc import Iterator
from dataclasses import replace
from hmac import compare_digest

import pytest
from sqlalchemy import Engine

from gateway.access import auth
from gateway.access.auth import Authenticator
from gateway.access.keys import KeyStore, digest
from gateway.errors import Unauthenticated
from gateway.settings.config import KeySettings
from tests.fakes.patience import PATIENCE_S


@pytest.fixture
def key(engine: Engine) -> bytes:
    store = KeyStore(engine)
    store.create_team("blue")
    return store.create_key("blue", "k").secret.get_secret_value().encode()


@pytest.fixture
def authenticator(engine: Engine) -> Iterator[Authenticator]:
    authenticator = Authenticator(engine, KeySettings(read_timeout_s=PATIENCE_S, staleness_s=600))
    yield authenticator
    authenticator.close()


class Secret(bytes):
    """A digest that can be compared in constant time, and in no other way."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("the digest of a secret was compared byte by byte")

    def __hash__(self) -> int:
        raise AssertionError("the digest of a secret was looked up in a table")

    __ne__ = __eq__
    __iter__ = __getitem__ = startswith = None  # type: ignore[assignment]


async def test_no_answer_takes_longer_the_better_a_secret_is_guessed(
    authenticator, key, monkeypatch
):
    """Each guess is hashed before it is compared, and compared in constant time."""
    monkeypatch.setattr(auth, "digest", lambda secret: Secret(digest(secret)))
    monkeypatch.setattr(auth, "NO_DIGEST", Secret(auth.NO_DIGEST))
    await authenticator.authenticate(key)
    known_id = key.split(b"-")[1].decode()
    known = authenticator._known[known_id]
    guarded = replace(
        known,
        secret_sha256=Secret(known.secret_sha256),
        previous_sha256=Secret(known.previous_sha256),
    )
    authenticator._known[known_id] = guarded

    assert (await authenticator.authenticate(key)).team_id == "blue"
    for guess in (key[:-1] + b"~", b"wp-000000000000-" + key[-20:]):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(guess)


async def test_an_unknown_key_is_hashed_and_compared_as_a_known_one_is(
    authenticator, key, monkeypatch
):
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare_digest(one, other)

    monkeypatch.setattr("hmac.compare_digest", compare)
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(b"wp-000000000000-guess")

    assert compared == [(digest(b"guess"), auth.NO_DIGEST)]
