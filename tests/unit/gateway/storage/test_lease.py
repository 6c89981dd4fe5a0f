import os
import subprocess
import sys
import threading
import time
from multiprocessing import get_context

import pytest

from gateway.storage.database import create_database_engine
from gateway.storage.lease import Lease, has_ended, name_this_process
from tests.fakes.patience import PATIENCE_S
from tests.fakes.schemas import closing, with_schema


@pytest.fixture
def engine(database_url):
    with closing(with_schema(create_database_engine(database_url))) as engine:
        yield engine


def test_one_process_has_the_lease_until_it_gives_it_back(engine):
    first, second = Lease(engine, "learner", "first"), Lease(engine, "learner", "second")
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
    leases = [Lease(engine, "learner", f"replica-{number}") for number in range(8)]
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


def test_a_lease_says_nothing_of_one_with_another_name(engine):
    learner, counter = Lease(engine, "learner", "first"), Lease(engine, "counter", "second")
    assert learner.take()
    assert counter.take()
    assert (learner.current_holder(), counter.current_holder()) == ("first", "second")
    learner.take_from("second")
    assert counter.current_holder() == "second"


def test_a_predecessor_on_this_host_has_ended_and_everybody_else_may_run():
    host, number, since = name_this_process().rsplit("/", 2)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert has_ended(f"{host}/{ended.pid}/{since}")
    assert has_ended(f"{host}/{number}/an earlier time")  # as in a container that was restarted
    assert not has_ended(f"{host}/{os.getppid()}/{since}")
    assert not has_ended(f"{host}/1/{since}")  # runs, and takes no signal from us
    assert not has_ended(f"another-host/{ended.pid}/{since}")


def take_and_die(url: str, ttl_s: float) -> None:
    """Take the lease, and leave without a word."""
    assert Lease(create_database_engine(url), "learner", "doomed", ttl_s).take()


def test_the_lease_of_a_process_that_died_is_taken_over_when_it_expires(engine, database_url):
    child = get_context("spawn").Process(target=take_and_die, args=(database_url, 1.0))
    child.start()
    child.join()
    assert child.exitcode == 0
    heir, give_up_at = Lease(engine, "learner", "heir"), time.monotonic() + PATIENCE_S
    while not heir.take():
        assert time.monotonic() < give_up_at
    assert heir.current_holder() == "heir"


def test_a_long_training_keeps_the_lease(engine):
    holder, other = Lease(engine, "learner", "holder", ttl_s=1.0), Lease(engine, "learner", "other")
    assert holder.take()
    with holder.renewed():
        over_at = time.monotonic() + 1.5
        while time.monotonic() < over_at:
            assert not other.take()
    assert holder.take()
