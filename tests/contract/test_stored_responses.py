"""Stored responses on SQLite and on Postgres: the same promises."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, func, select

from gateway.access.keys import KeyStore
from gateway.errors import BodyTooLarge, DependencyUnavailable, InvalidRequest
from gateway.evaluation_log.conversations import ConversationStore
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.stored_responses import (
    MAX_LINKS,
    ResponseRecord,
    ResponseStore,
    StoredResponse,
    conversation_of,
)
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from gateway.storage.rows import prune_responses
from migrations.tables import CONVERSATIONS, STORED_RESPONSES
from tests.fakes.schemas import closing, with_schema
from tests.fakes.turns import START_UNIX_S

MAX_BYTES = 10_000
DAYS = 30
SETTINGS = EvaluationLogSettings(flush_interval_s=0.02, stored_responses_days=DAYS)


@pytest.fixture
def engine(database_url: str):
    with closing(with_schema(create_database_engine(database_url))) as engine:
        yield engine


@pytest.fixture
def log(engine: Engine, tmp_path: Path) -> EvaluationLog:
    return EvaluationLog(engine, SETTINGS, tmp_path / "spool", clock=lambda: START_UNIX_S)


@pytest.fixture
def store(engine: Engine, log: EvaluationLog) -> ResponseStore:
    return ResponseStore(log, engine, DAYS, MAX_BYTES, patience_s=0.0, clock=lambda: START_UNIX_S)


def record(name: str, previous: str | None = None, **changes: Any) -> ResponseRecord:
    """Build a response to a request whose one item is its name, and whose output is its twin."""
    return replace(
        ResponseRecord(
            team_id="blue",
            response_id=name,
            previous_id=previous,
            created_at_unix_s=START_UNIX_S,
            input=orjson.dumps([name]).decode(),
            response=orjson.dumps({"id": name, "output": [name.upper()]}).decode(),
        ),
        **changes,
    )


async def write(log: EvaluationLog, *records: ResponseRecord) -> None:
    for one in records:
        assert log.record_response(one)
    log.start()
    await log.aclose()


def nothing(n_bytes: int) -> None:
    del n_bytes


async def test_a_conversation_is_read_along_its_links(log, store):
    await write(log, record("c", "b"), record("a"), record("b", "a"), record("other"))

    held: list[int] = []
    chain = await store.chain("blue", "c", held.append)

    assert conversation_of(chain) == ["a", "A", "b", "B", "c", "C"]
    assert held == [sum(len(one.input) + len(one.response) for one in chain)]
    assert orjson.loads(await store.response("blue", "b") or "")["id"] == "b"


async def test_characters_beyond_ascii_count_by_their_bytes(log, store):
    await write(log, record("a", input='["\U0001f600\u0416"]'))

    held: list[int] = []
    (kept,) = await store.chain("blue", "a", held.append)

    assert held == [len(kept.input.encode()) + len(kept.response)]


def test_a_conversation_of_too_many_pieces_is_not_decoded():
    many = "[" + "[]," * 100_000 + "[]]"
    chain = [StoredResponse(name, many, '{"output":[]}') for name in ("a", "b")]

    with pytest.raises(InvalidRequest, match="more than 250000"):
        conversation_of(chain)


async def test_texts_come_back_byte_for_byte(log, store):
    odd = '{"output":[],"long":123456789012345678901234567890,"nul":"\\u0000","é":"\\ud83d\\ude00"}'
    await write(log, record("a", response=odd))

    assert await store.response("blue", "a") == odd


async def test_nothing_of_another_team_is_found_or_deleted(log, store):
    await write(log, record("a"), record("a", team_id="red", input='["red"]'))

    assert [one.input for one in await store.chain("red", "a", nothing)] == ['["red"]']
    assert await store.response("green", "a") is None
    assert await store.chain("green", "a", nothing) == []
    assert not await store.delete("green", "a")
    assert await store.delete("red", "a")
    assert await store.response("blue", "a") is not None


async def test_a_conversation_of_which_a_part_is_missing_is_not_gone_on_from(log, store):
    await write(log, record("a"), record("b", "a"), record("c", "b"))

    assert await store.delete("blue", "b")

    assert await store.chain("blue", "c", nothing) == []
    assert len(await store.chain("blue", "a", nothing)) == 1


async def test_what_is_too_old_is_not_found_and_deleted(engine, log, store):
    day_s = timedelta(days=1).total_seconds()
    old = START_UNIX_S - (DAYS + 1) * day_s
    await write(
        log,
        record("a", created_at_unix_s=old),
        record("b", "a", created_at_unix_s=START_UNIX_S - (DAYS - 1) * day_s),
    )

    assert await store.response("blue", "a") is None
    assert await store.chain("blue", "b", nothing) == []
    assert not await store.delete("blue", "a")
    with engine.connect() as connection:
        assert connection.execute(select(STORED_RESPONSES.c.id)).scalars().all() == ["b"]


async def test_a_circle_ends(log, store):
    await write(log, record("a", "b"), record("b", "a"))

    assert await store.chain("blue", "a", nothing) == []


async def test_a_conversation_has_a_longest_length(log, store):
    names = [str(n) for n in range(MAX_LINKS // 10)]
    links = zip(names, [None, *names], strict=False)
    await write(log, *(record(name, before) for name, before in links), record("x", None))
    assert len(await store.chain("blue", names[-1], nothing)) == len(names)

    small = replace(store, max_bytes=100)
    with pytest.raises(BodyTooLarge):
        await small.chain("blue", names[-1], nothing)


async def test_a_response_that_is_on_its_way_is_waited_for(engine, log, store):
    assert log.record_response(record("a"))
    patient = replace(store, patience_s=5.0)
    log.start()
    try:
        assert await patient.response("blue", "a") is not None
    finally:
        await log.aclose()


async def test_more_than_there_is_memory_for_is_not_kept(log, monkeypatch):
    monkeypatch.setattr(
        "gateway.evaluation_log.evaluation_log.MAX_RESPONSE_BYTES", record("a").n_bytes
    )
    assert log.record_response(record("a"))
    assert not log.record_response(record("b"))
    log.start()
    await log.aclose()
    assert log.record_response(record("b"))


async def test_who_opts_out_has_its_own_responses_erased(engine, log, store, conversations):
    teams = KeyStore(engine)
    for team in ("blue", "red"):
        teams.create_team(team, stores_responses=True)
    await write(log, record("a"), record("a", team_id="red"))

    for team in ("blue", "red"):
        await conversations.create(team, "c", {}, [])

    teams.update_team("blue", stores_responses=False)

    with engine.connect() as connection:
        assert connection.execute(select(STORED_RESPONSES.c.team_id)).scalars().all() == ["red"]
        assert connection.execute(select(func.count(STORED_RESPONSES.c.id))).scalar() == 1
        assert connection.execute(select(CONVERSATIONS.c.team_id)).scalars().all() == ["red"]


@pytest.fixture
def conversations(store: ResponseStore) -> ConversationStore:
    return ConversationStore(store)


def message(text: str) -> dict[str, str]:
    return {"type": "message", "id": f"in_{text}", "role": "user", "content": text}


async def test_a_conversation_has_items_and_answers_in_their_order(log, store, conversations):
    begun = await conversations.create("blue", "c", {"a": "b"}, [message("one")])
    answered = record("r", conversation_id="c", created_at_unix_s=START_UNIX_S + 1)
    await write(log, answered, record("other"))
    later = replace(store, clock=lambda: START_UNIX_S + 2)
    assert await ConversationStore(later).add("blue", "c", [message("two"), message("three")])

    held: list[int] = []
    said = [message("one"), "r", "R", message("two"), message("three")]
    assert await said_in(conversations, "blue", "c", held.append) == said
    assert held[0] > answered.n_bytes
    assert await conversations.find("blue", "c") == begun
    changed = await conversations.update("blue", "c", {"a": "c"})
    assert changed is not None
    assert changed.decoded_metadata == {"a": "c"}


async def said_in(conversations: ConversationStore, *about: Any) -> list[Any]:
    return conversation_of(await conversations.parts(*about) or [])


async def test_nobody_else_has_a_conversation_and_its_end_is_of_all_it_was(
    engine, log, store, conversations
):
    await conversations.create("blue", "c", {}, [message("one")])
    await conversations.create("red", "c", {}, [message("red")])
    await write(log, record("r", conversation_id="c"))

    assert not await conversations.delete("green", "c")
    assert await conversations.parts("green", "c", nothing) is None
    assert not await conversations.add("green", "c", [message("x")])
    assert await conversations.delete("blue", "c")

    assert await conversations.find("blue", "c") is None
    assert await store.response("blue", "r") is None
    assert await said_in(conversations, "red", "c", nothing) == [message("red")]
    with engine.connect() as connection:
        assert connection.execute(select(STORED_RESPONSES.c.team_id)).scalars().all() == ["red"]


async def test_what_callers_add_is_no_response(store, conversations):
    await conversations.create("blue", "c", {}, [message("one")])

    assert await store.response("blue", "in_one") is None
    assert await store.chain("blue", "in_one", nothing) == []
    assert not await store.delete("blue", "in_one")


async def test_an_item_is_taken_out_of_what_was_asked_or_answered(log, store, conversations):
    answer = orjson.dumps({"id": "r", "output": [message("R1"), message("R2")]}).decode()
    asked = orjson.dumps([message("one")]).decode()
    await conversations.create("blue", "c", {}, [])
    await write(log, record("r", conversation_id="c", input=asked, response=answer))

    assert not await conversations.delete_item("blue", "c", "in_R3")
    assert not await conversations.delete_item("red", "c", "in_R1")
    assert not await conversations.delete_item("blue", "other", "in_R1")
    assert await conversations.delete_item("blue", "c", "in_R1")
    assert await said_in(conversations, "blue", "c", nothing) == [message("one"), message("R2")]
    assert await conversations.delete_item("blue", "c", "in_one")
    assert await said_in(conversations, "blue", "c", nothing) == [message("R2")]
    assert "R1" not in (await store.response("blue", "r") or "")


async def test_a_team_has_so_much_room_for_conversations(monkeypatch, conversations):
    place = "gateway.evaluation_log.conversations"
    monkeypatch.setattr(f"{place}.MAX_ADDED_BYTES", 100)
    await conversations.create("blue", "c", {}, [message("one")])
    for ask in (
        conversations.add("blue", "c", [message("two")]),
        conversations.create("blue", "d", {}, [message("two")]),
    ):
        with pytest.raises(BodyTooLarge):
            await ask
    assert await conversations.find("blue", "d") is None
    await conversations.create("red", "c", {}, [message("one")])
    monkeypatch.setattr(f"{place}.MAX_CONVERSATIONS", 1)
    with pytest.raises(BodyTooLarge):
        await conversations.create("blue", "d", {}, [])


async def test_a_conversation_is_no_longer_than_a_request_may_be(monkeypatch, conversations):
    await conversations.create("blue", "c", {}, [message("x" * MAX_BYTES)])
    with pytest.raises(BodyTooLarge):
        await conversations.parts("blue", "c", nothing)
    monkeypatch.setattr("gateway.evaluation_log.conversations.MAX_LINKS", 0)
    await conversations.create("blue", "d", {}, [message("x")])
    with pytest.raises(BodyTooLarge):
        await conversations.parts("blue", "d", nothing)


async def test_a_conversation_that_began_too_long_ago_is_gone(engine, store, conversations):
    old = replace(store, clock=lambda: START_UNIX_S - (DAYS + 1) * 86_400)
    await ConversationStore(old).create("blue", "c", {}, [message("one")])
    assert await ConversationStore(old).find("blue", "c") is not None
    await conversations.create("blue", "d", {}, [])

    assert await conversations.find("blue", "c") is None
    assert await conversations.parts("blue", "c", nothing) is None
    assert not await conversations.add("blue", "c", [message("x")])
    assert not await conversations.delete("blue", "c")
    assert await conversations.update("blue", "c", {}) is None
    with engine.begin() as connection:
        assert prune_responses(connection, store.oldest) == 2
        assert connection.execute(select(CONVERSATIONS.c.id)).scalars().all() == ["d"]
        assert connection.execute(select(STORED_RESPONSES.c.id)).all() == []


async def test_without_a_database_it_is_to_be_tried_again(store, tmp_path):
    gone = create_database_engine(f"sqlite:///{tmp_path}")
    with pytest.raises(DependencyUnavailable):
        await replace(store, engine=gone).response("blue", "a")


async def test_an_id_that_no_database_holds_is_the_id_of_nothing(store):
    assert await store.response("blue", "a\0") is None
    assert await store.chain("blue", "\ud800", nothing) == []
