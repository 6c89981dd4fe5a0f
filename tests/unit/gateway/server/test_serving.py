import signal

import pytest

from gateway.server.serving import heeded


@pytest.mark.parametrize(("before", "is_heeded"), [(signal.SIG_IGN, False), (signal.SIG_DFL, True)])
def test_a_hang_up_ends_a_process_unless_it_was_started_to_outlive_it(before, is_heeded) -> None:
    found = signal.signal(signal.SIGHUP, before)
    try:
        assert (signal.SIGHUP in heeded()) is is_heeded
    finally:
        signal.signal(signal.SIGHUP, found)
    assert {signal.SIGINT, signal.SIGTERM} <= set(heeded())
