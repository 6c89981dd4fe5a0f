import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.federation_simulation.in_process import Exchanged, InProcessGrid
from benchmarks.federation_simulation.simulation import LONG_AGO, MemoryCheckpoints, simulate
from federation.coordinator.session import Session
from federation.node.client_app import build_client_app
from tests.fakes.sites import plan_of, silence, site_of, sites_of


def app(message, context):
    return Message(RecordDict(), reply_to=message)


def broken_app(message, context):
    raise KeyError("no such thing")


def nodes(*apps) -> dict[int, ClientApp]:
    """Functions do where Flower has its client apps."""
    return dict(enumerate(apps, 1))


def message_to(node, content=None):
    return Message(content or RecordDict(), node, "query.rows")


def test_a_message_reaches_its_node_and_the_reply_says_whose_it_is():
    grid = InProcessGrid(nodes(app, app))
    replies = grid.send_and_receive([message_to(2), message_to(1)])
    assert [reply.metadata.src_node_id for reply in replies] == [2, 1]


def test_an_app_that_fails_answers_with_an_error_as_in_a_deployment():
    (reply,) = InProcessGrid(nodes(broken_app)).send_and_receive([message_to(1)])
    assert reply.has_error()


def test_a_node_that_left_does_not_answer():
    grid = InProcessGrid(nodes(app))
    messages = [message_to(1)]
    del grid.nodes[1]
    assert grid.send_and_receive(messages, timeout=5.0) == []


def test_waiting_for_a_silent_node_takes_the_grids_time_and_not_ours():
    grid = InProcessGrid(nodes(app, app), {2: silence})
    began_s = grid.clock()
    assert len(grid.send_and_receive([message_to(1), message_to(2)], timeout=500.0)) == 1
    assert 500.0 <= grid.clock() - began_s < 510.0


def test_a_reply_is_pulled_once():
    grid = InProcessGrid(nodes(app))
    ids = grid.push_messages([message_to(1)])
    assert len(grid.pull_messages(ids)) == 1
    assert grid.pull_messages(ids) == []


def test_makes_messages_for_those_who_still_ask_a_grid_for_them():
    message = InProcessGrid({}).create_message(RecordDict(), "query.rows", 3, "1", 2.0)
    assert (message.metadata.dst_node_id, message.metadata.ttl) == (3, 2.0)


def test_has_no_runs():
    grid = InProcessGrid({})
    with pytest.raises(NotImplementedError):
        _ = grid.run
    with pytest.raises(NotImplementedError):
        grid.set_run(None)  # type: ignore[arg-type]


def test_records_every_message_with_its_bytes():
    traffic: list[Exchanged] = []
    simulate(sites_of(3), plan_of("mlp"), traffic=traffic)
    training = [t for t in traffic if t.instruction.metadata.message_type == "train.weights"]
    assert len(training) == 3 * 3
    n_weights = (12 * 8 + 3 * 8) + (8 * 8 + 3 * 8) + (8 * 8 + 8)
    assert all(t.bytes_received > 4 * n_weights for t in training)
    assert all(t.bytes_sent > 4 * n_weights for t in training)


def test_counts_nothing_for_a_reply_that_did_not_come():
    traffic: list[Exchanged] = []
    grid = InProcessGrid(nodes(app), {1: silence}, traffic)
    grid.send_and_receive([message_to(1)])
    assert [t.bytes_received for t in traffic] == [0]


class Joining(MemoryCheckpoints):
    """Lets a node join, or leave, after the first round."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def save(self, data):
        super().save(data)
        self.change()


def run_with(grid, change, kind="mlp"):
    session = Session(grid, plan_of(kind), Joining(change), grid.clock, grid.sleep)
    return session.run(LONG_AGO)


def test_a_node_that_joins_between_rounds_takes_part_from_then_on():
    grid = InProcessGrid({n: build_client_app(site_of(n)) for n in (1, 2)})
    late = build_client_app(site_of(3))
    result = run_with(grid, lambda: grid.nodes.setdefault(3, late))
    first, second = (r.accepted for r in result.report.rounds[:2])
    assert first == ("site-1", "site-2")
    assert second == ("site-1", "site-2", "site-3")


def test_a_node_that_leaves_between_rounds_is_not_waited_for():
    grid = InProcessGrid({n: build_client_app(site_of(n)) for n in (1, 2, 3)})
    result = run_with(grid, lambda: grid.nodes.pop(3, None))
    assert result.report.rounds[1].accepted == ("site-1", "site-2")
    assert result.report.rounds[1].silent == ()
    assert set(result.report.verdicts) == {"site-1", "site-2"}
