"""What the learner remembers and reads, on each kind of database."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.learning.events import Event, LearningEvents
from gateway.learning.evidence import Evidence
from gateway.storage.database import create_database_engine
from tests.fakes.artifacts import EncoderIdentity
from tests.fakes.evaluations import DIMENSION, made_up
from tests.fakes.logged import fill, records
from tests.fakes.schemas import closing, with_schema
from tests.fakes.turns import START_UNIX_S

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
BEGIN = datetime.fromtimestamp(START_UNIX_S, UTC)


@pytest.fixture
def engine(database_url):
    with closing(with_schema(create_database_engine(database_url))) as engine:
        yield engine


def test_the_latest_event_of_a_kind_and_of_a_router_is_found(engine):
    events = LearningEvents(engine)
    assert events.latest() is None
    first = Event(NOW, "learner", "activated", "it is better", "a-1", None, {"graded_until": "x"})
    second = Event(
        NOW + timedelta(hours=1), "operator", "rolled_back", "it was worse", "a-1", "a-0"
    )
    for event in (first, second):
        events.add(event)
    assert events.latest() == second
    assert events.latest("activated") == events.latest("activated", version="a-1") == first
    assert events.latest("activated", version="a-0") is None
    assert events.latest_attempt() == first
    assert events.newest(1) == [second]
    assert events.rolled_back() == {"a-1"}
    assert events.count() == {"activated": (1, NOW), "rolled_back": (1, second.at)}


async def test_graded_answers_come_in_the_order_of_their_first_grades(engine, tmp_path):
    truth = made_up(40)
    await fill(engine, tmp_path, records(truth))
    evidence = Evidence(engine, EncoderIdentity(dimension=DIMENSION), 1000)
    assert evidence.new_grades(None) == (40, BEGIN + timedelta(seconds=39))
    assert evidence.new_grades(BEGIN + timedelta(seconds=29))[0] == 10
    choices = evidence.choices_since(BEGIN + timedelta(seconds=20))
    assert len(choices.answered) == 20
    assert (choices.embeddings[:, :DIMENSION] == truth.embeddings[20:]).all()
