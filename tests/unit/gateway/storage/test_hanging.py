import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from gateway.storage.database import create_database_engine
from gateway.storage.hanging import give_up_statements
from tests.fakes.patience import PATIENCE_S
from tests.fakes.postgres import Postgres, running_postgres
from tests.fakes.schemas import closing


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def engine(postgres: Postgres) -> Iterator[Engine]:
    with closing(create_database_engine(postgres.url)) as engine:
        yield engine


def ask(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT 1")).scalar_one())


def test_what_waits_for_a_frozen_server_is_freed(engine, postgres):
    ask(engine)
    ended: list[type[Exception]] = []

    def wait() -> None:
        try:
            ask(engine)
        except OperationalError as error:
            ended.append(type(error))

    waiting = threading.Thread(target=wait)
    postgres.pause()
    try:
        waiting.start()
        while engine.pool.checkedout() == 0:
            pass
        give_up_statements(engine)
        waiting.join(PATIENCE_S)
    finally:
        postgres.resume()
    assert not waiting.is_alive()
    assert ended == [OperationalError]


def test_afterwards_the_engine_can_be_used_as_before(engine):
    with engine.connect() as connection:
        give_up_statements(engine)
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT 1"))
    assert ask(engine) == 1
    engine.pool.dispose()
    give_up_statements(engine)
    assert ask(engine) == 1


def test_there_is_nothing_to_break_in_sqlite(tmp_path):
    with closing(create_database_engine(f"sqlite:///{tmp_path}/waypost.db")) as engine:
        give_up_statements(engine)
        assert ask(engine) == 1
