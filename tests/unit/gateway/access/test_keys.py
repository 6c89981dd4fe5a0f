import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from gateway.access.keys import KeyStore, ensure_first_key, load_admin_token
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.settings.config import ConfigurationError
from gateway.storage.database import create_database_engine
from migrations.tables import KEYS
from tests.fakes.postgres import Postgres
from tests.fakes.schemas import with_schema

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(engine: Engine) -> KeyStore:
    store = KeyStore(engine, now=lambda: NOW)
    store.create_team("blue")
    return store


def test_a_new_key_is_shown_once_and_stored_as_a_digest(store, engine):
    new = store.create_key("blue", "laptop")

    prefix, key_id, secret = new.secret.get_secret_value().split("-", 2)
    assert (prefix, key_id, len(secret)) == ("wp", new.info.id, 43)
    with engine.connect() as connection:
        stored = connection.execute(select(KEYS)).mappings().one()
    assert stored["secret_sha256"] == hashlib.sha256(secret.encode()).digest()
    assert secret not in repr(new)


def test_a_key_keeps_what_it_may_do(store):
    expiry = NOW + timedelta(days=1)
    new = store.create_key(
        "blue", "laptop", allowed_models=["b", "a", "b"], profile="economy", expires_at=expiry
    )

    key = store.key(new.info.id)
    assert key == new.info
    assert (key.allowed_models, key.profile, key.expires_at) == (["a", "b"], "economy", expiry)
    assert (key.created_at, key.revoked_at, key.last_used_at) == (NOW, None, None)


@pytest.mark.parametrize("team_id", ["", "Blue", "-x", "a" * 64, "a b", "a\n"])
def test_a_malformed_team_id_is_refused(store, team_id):
    with pytest.raises(InvalidRequest, match="lower-case"):
        store.create_team(team_id)


def test_a_taken_team_id_is_refused(store):
    with pytest.raises(Conflict, match="exists already"):
        store.create_team("blue")


def test_a_team_may_opt_in_to_logging_text(store):
    assert not store.team("blue").logs_text
    assert store.update_team("blue", logs_text=True).logs_text
    assert store.team("blue").logs_text


def test_a_choice_that_is_not_named_stays_as_it_is(store):
    assert not store.team("blue").trains_reasoner
    store.update_team("blue", trains_reasoner=True)
    team = store.update_team("blue", logs_text=True)
    assert (team.logs_text, team.trains_reasoner, team.is_judged) == (True, True, False)
    assert store.update_team("blue", is_judged=True).is_judged


@pytest.mark.parametrize(
    "action",
    [
        lambda store: store.team("no"),
        lambda store: store.update_team("no", logs_text=True),
        lambda store: store.create_key("no", "name"),
        lambda store: store.key("no"),
        lambda store: store.update_key("no", name="x"),
        lambda store: store.revoke_key("no"),
        lambda store: store.rotate_key("no"),
    ],
)
def test_what_does_not_exist_is_not_found(store, action):
    with pytest.raises(NotFound, match="'no'"):
        action(store)


def test_lists_come_in_pages(store):
    store.create_team("green")
    ids = sorted(store.create_key("blue", str(n)).info.id for n in range(5))
    other = store.create_key("green", "g").info.id

    assert [team.id for team in store.teams(limit=1)] == ["blue"]
    assert [team.id for team in store.teams(after="blue")] == ["green"]
    first = [key.id for key in store.keys(team_id="blue", limit=3)]
    rest = [key.id for key in store.keys(team_id="blue", after=first[-1], limit=3)]
    assert first + rest == ids
    assert [key.id for key in store.keys(team_id="green")] == [other]
    assert len(store.keys(limit=0)) == 1


def test_what_a_key_may_do_can_change(store):
    key_id = store.create_key("blue", "k", allowed_models=["a"]).info.id

    assert store.update_key(key_id).allowed_models == ["a"]
    assert store.update_key(key_id, allowed_models=None).allowed_models is None
    changed = store.update_key(key_id, name="n", profile="quality", expires_at=NOW)
    assert (changed.name, changed.profile, changed.expires_at) == ("n", "quality", NOW)
    with pytest.raises(TypeError, match="team_id"):
        store.update_key(key_id, team_id="green")


def test_revoking_twice_keeps_the_first_time(engine):
    times = iter([NOW, NOW, NOW + timedelta(1), NOW + timedelta(2)])
    store = KeyStore(engine, now=lambda: next(times))
    store.create_team("blue")
    key_id = store.create_key("blue", "k").info.id

    assert store.revoke_key(key_id).revoked_at == NOW + timedelta(1)
    assert store.revoke_key(key_id).revoked_at == NOW + timedelta(1)


def test_rotation_keeps_the_id_and_honours_the_old_secret_for_a_while(store, engine):
    old = store.create_key("blue", "k")
    new = store.rotate_key(old.info.id, overlap=timedelta(hours=1))

    assert new.info.id == old.info.id
    assert new.secret != old.secret
    assert new.info.previous_valid_until == NOW + timedelta(hours=1)
    with engine.connect() as connection:
        previous = connection.scalar(select(KEYS.c.previous_secret_sha256))
    secret = old.secret.get_secret_value().split("-", 2)[2]
    assert previous == hashlib.sha256(secret.encode()).digest()


def test_a_revoked_key_cannot_be_rotated(store):
    key_id = store.create_key("blue", "k").info.id
    store.revoke_key(key_id)

    with pytest.raises(InvalidRequest, match="revoked"):
        store.rotate_key(key_id)


def test_the_first_start_makes_a_key_and_later_ones_do_not(engine):
    assert str(ensure_first_key(engine)).startswith("wp-")
    assert ensure_first_key(engine) is None
    (key,) = KeyStore(engine).keys(limit=2)
    assert key.team_id == "default"


def test_the_first_key_joins_a_default_team_that_is_there(engine):
    KeyStore(engine).create_team("default")

    assert ensure_first_key(engine) is not None


def test_of_gateways_that_start_together_one_makes_the_first_key(postgres: Postgres):
    url = postgres.new_database()
    engines = [create_database_engine(url) for _ in range(4)]
    with_schema(engines[0])
    with ThreadPoolExecutor(len(engines)) as pool:
        made = list(pool.map(ensure_first_key, engines))

    assert len([key for key in made if key is not None]) == 1
    assert len(KeyStore(engines[0]).keys()) == 1
    for engine in engines:
        engine.dispose()


def test_the_admin_token_is_made_once_and_private(tmp_path):
    file = tmp_path / "data" / "admin-token"

    token = load_admin_token(file)

    assert len(token.get_secret_value()) == 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_admin_token(file) == token
    assert list(file.parent.iterdir()) == [file]


def test_processes_that_start_together_agree_on_the_admin_token(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(load_admin_token, [tmp_path / "admin-token"] * 8))

    assert len(tokens) == 1


def test_a_token_made_by_another_process_meanwhile_counts(tmp_path, monkeypatch):
    file = tmp_path / "admin-token"

    def link_late(source: Path, target: Path) -> None:
        Path(target).write_text("the other process's token\n")
        raise FileExistsError

    monkeypatch.setattr(os, "link", link_late)

    assert load_admin_token(file).get_secret_value() == "the other process's token"


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40])
def test_a_broken_admin_token_is_refused(tmp_path, content):
    (tmp_path / "admin-token").write_bytes(content)

    with pytest.raises(ConfigurationError, match="admin-token"):
        load_admin_token(tmp_path / "admin-token")
