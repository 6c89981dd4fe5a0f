import resource
from math import inf

import pytest

from gateway.server.connections import ConnectionLimits, Connections, Phase, network_of
from gateway.settings.config import ServerSettings


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "::ffff:192.0.2.7"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"),
    ],
)
def test_one_caller_is_one_network(one, other) -> None:
    assert network_of(one) == network_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("192.0.2.7", "192.0.2.8"), ("2001:db8:0:1::1", "2001:db8:0:2::1")],
)
def test_others_are_other_networks(one, other) -> None:
    assert network_of(one) != network_of(other)


@pytest.mark.parametrize(
    ("files", "most"), [(1000, 500), (20_000, 4096), (resource.RLIM_INFINITY, 4096)]
)
def test_connections_take_at_most_their_share_of_the_descriptors(monkeypatch, files, most) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    limits = ConnectionLimits.of(ServerSettings(), 4096, 1 / 2)
    assert limits.max_connections == most


def test_every_phase_has_its_patience() -> None:
    limits = ConnectionLimits.of(ServerSettings(), 10, 1 / 2)
    assert set(limits.patience_s) == set(Phase)
    assert limits.patience_s[Phase.SERVING] == inf


def test_while_the_process_stood_still_nobody_was_kept_waiting() -> None:
    connections = Connections(ConnectionLimits.of(ServerSettings(), 10, 1 / 2))
    for clock_s in (100.0, 101.0, 3700.0):
        connections.sweep(clock_s)
    assert connections.now_s == 3.0
