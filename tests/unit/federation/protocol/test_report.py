import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from benchmarks.federation_simulation.in_process import Exchanged
from benchmarks.federation_simulation.simulation import simulate
from federation.protocol.protocol import ARRAYS, to_record
from federation.protocol.report import size_of
from tests.fakes.sites import plan_of, sites_of

pytestmark = pytest.mark.usefixtures("grid")


def message_of(content: RecordDict) -> Message:
    return Message(content, 1, "query.rows")


def test_counts_the_bytes_of_arrays_and_texts():
    arrays = to_record({"sums": np.zeros(1000)})
    empty = size_of(message_of(RecordDict({ARRAYS: to_record({"sums": np.zeros(0)})})))
    assert size_of(message_of(RecordDict({ARRAYS: arrays}))) == empty + 8000
    assert size_of(message_of(RecordDict({"plan": ConfigRecord({"text": "abc"})}))) == 3


def test_a_failure_has_no_content_to_count():
    failure = Message(Error(100, "it broke"), reply_to=message_of(RecordDict()))
    assert size_of(failure) == 0


def test_a_session_reports_the_bytes_of_every_exchange():
    traffic: list[Exchanged] = []
    report = simulate(sites_of(3), plan_of(), traffic=traffic).report
    for each in report.rounds:
        own = [t for t in traffic if t.instruction.metadata.message_type == each.exchange]
        assert each.bytes_sent == sum(t.bytes_sent for t in own) > 0
        assert each.bytes_received == sum(t.bytes_received for t in own) > 0
