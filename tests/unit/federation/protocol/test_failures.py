import re

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.federation_simulation.in_process import InProcessGrid
from benchmarks.federation_simulation.simulation import RowsSite
from federation.errors import ReplyRejected
from federation.node.client_app import build_client_app
from federation.protocol.failures import MAX_REASON, failure, read_failure, reason_of
from federation.protocol.protocol import Instruction, read_profile
from tests.fakes.evaluations import MODELS
from tests.fakes.sites import plan_of, site_of

PRIVATE = "my salary is 4,217"


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def answered_by(app: ClientApp, name: str = "query.hello") -> Message:
    content = Instruction(plan_of(columns=MODELS)).to_content()
    (reply,) = InProcessGrid({1: app}).send_and_receive([Message(content, 1, name)])
    return reply


@pytest.fixture
def instruction(grid: InProcessGrid) -> Message:
    return Message(RecordDict(), 1, "query.hello")


@pytest.mark.parametrize(
    "error",
    [
        FutureWarning("`past_key_values` is now `cache`"),
        AttributeError("module 'torch' has no attribute 'compile'"),
        ModuleNotFoundError("No module named 'peft'"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    ],
)
def test_what_speaks_of_code_is_told_with_its_message(error):
    reason = reason_of(raised(error))

    assert reason.startswith(f"{type(error).__name__} in ")
    assert reason.endswith(f": {error}")


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"could not convert {PRIVATE!r}"),
        KeyError(PRIVATE),
        LookupError(PRIVATE),
        AssertionError(PRIVATE),
        FileNotFoundError(2, "No such file or directory", f"/data/{PRIVATE}"),
        UnicodeEncodeError("ascii", PRIVATE, 0, 1, PRIVATE),
        type("DatabaseError", (Exception,), {})(f"[parameters: ({PRIVATE!r})]"),
    ],
)
def test_what_may_quote_a_row_is_told_by_its_class_alone(error):
    reason = reason_of(raised(error))

    assert reason.startswith(type(error).__name__)
    assert "salary" not in reason
    assert "4,217" not in reason


def test_a_file_that_is_missing_is_called_so_without_its_name():
    assert "No such file" in reason_of(FileNotFoundError(2, "No such file or directory", PRIVATE))


def test_the_place_is_the_function_of_ours_that_failed(monkeypatch):
    def profile(*_):
        raise TypeError("unexpected keyword argument 'cache'")

    monkeypatch.setattr(RowsSite, "profile", profile)
    reply = answered_by(build_client_app(site_of(0)))

    with pytest.raises(ReplyRejected) as rejection:
        read_profile(reply)

    assert re.search(
        r"node failed: TypeError in federation\.node\.client_app\._on_hello: unexpected keyword",
        str(rejection.value),
    )


def test_a_failure_that_gives_no_reason_says_that(instruction):
    assert "no reason given" in (read_failure(Message(Error(3), reply_to=instruction)) or "")


def test_a_reason_is_one_line_of_bounded_length_whoever_wrote_it(instruction):
    hostile = "a\n\x1b[31mb\u202e " + "c" * 10_000

    told = read_failure(Message(Error(100, hostile), reply_to=instruction)) or ""

    assert len(told) < MAX_REASON + 100
    assert told.isprintable()


def test_an_answer_is_no_failure(instruction):
    assert read_failure(Message(RecordDict(), reply_to=instruction)) is None


def test_what_a_node_says_the_coordinator_reads(instruction):
    reply = failure(instruction, raised(MemoryError("of 8 GB")))

    assert "MemoryError in a library: of 8 GB (Flower error 100)" in (read_failure(reply) or "")
