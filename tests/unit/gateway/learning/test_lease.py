import threading
import time
from multiprocessing import get_context

import pytest

from gateway.learning.lease import Lease
from gateway.storage.database import create_database_engine
from tests.fakes.patience import PATIENCE_S
from tests.fakes.schemas import closing, with_schema


@pytest.fixture
def engine(database_url):
    with closing(with_schema(create_database_engine(database_url))) as engine:
        yield engine


def test_one_process_has_the_lease_until_it_gives_it_back(engine):
    first, second = Lease(engine, "first"), Lease(engine, "second")
    assert first.current_holder() is None
    assert first.take()
    assert not second.take()
    assert first.take()
    assert second.current_holder() == "first"
    second.release()
    assert second.current_holder() == "first"
    first.release()
    assert second.take()


def test_of_many_that_ask_at_once_one_gets_it(engine):
    leases = [Lease(engine, f"replica-{number}") for number in range(8)]
    taken: list[str] = []
    at_once = threading.Barrier(len(leases))

    def ask(lease: Lease) -> None:
        at_once.wait()
        if lease.take():
            taken.append(lease.holder)

    threads = [threading.Thread(target=ask, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == [leases[0].current_holder()]


def take_and_die(url: str, ttl_s: float) -> None:
    """Take the lease, and leave without a word."""
    assert Lease(create_database_engine(url), "doomed", ttl_s).take()


def test_the_lease_of_a_process_that_died_is_taken_over_when_it_expires(engine, database_url):
    child = get_context("spawn").Process(target=take_and_die, args=(database_url, 1.0))
    child.start()
    child.join()
    assert child.exitcode == 0
    heir, give_up_at = Lease(engine, "heir"), time.monotonic() + PATIENCE_S
    while not heir.take():
        assert time.monotonic() < give_up_at
    assert heir.current_holder() == "heir"


def test_a_long_training_keeps_the_lease(engine):
    holder, other = Lease(engine, "holder", ttl_s=1.0), Lease(engine, "other")
    assert holder.take()
    with holder.renewed():
        over_at = time.monotonic() + 1.5
        while time.monotonic() < over_at:
            assert not other.take()
    assert holder.take()
