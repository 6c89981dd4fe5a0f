"""What every `States` keeps, in memory and on disk."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from federation.reasoner.file_states import FileStates
from federation.reasoner.states import MemoryStates, State

LEARNER = {
    "step": 3,
    "adapters": [torch.ones(2)],
    "optimiser": {"state": {0: {"exp": torch.ones(1)}}},
}
ANSWER: dict[str, NDArray[Any]] = {
    "tokens": np.array([1, 2], np.int32),
    "figures": np.zeros((2, 3)),
}
STATE = State(4, "digest", LEARNER, ((0.5, 1.0), (0.25, 1.0)), ANSWER)


@pytest.fixture(params=["memory", "files"])
def states(request, tmp_path):
    return {"memory": MemoryStates(), "files": FileStates.of_session(tmp_path, "first")}[
        request.param
    ]


def at(number):
    return replace(STATE, number=number)


def test_returns_what_was_written(states):
    states.write(STATE)
    found = states.read(4)
    assert (found.number, found.question, found.figures) == (4, "digest", STATE.figures)
    assert found.learner["step"] == 3
    torch.testing.assert_close(found.learner["adapters"][0], torch.ones(2))
    for name, array in ANSWER.items():
        assert found.answer[name].dtype == array.dtype
        np.testing.assert_array_equal(found.answer[name], array)


def test_a_state_without_an_answer_has_none(states):
    states.write(replace(STATE, answer=None))
    assert states.read(4).answer is None
    assert states.read(5) is None


def test_keeps_the_latest_two_phases(states):
    for number in (1, 2, 5, 10):
        states.write(at(number))
    assert [states.read(number) is None for number in (1, 2, 5, 10)] == [True, True, False, False]
    assert states.read_before(10).number == 5
    assert states.read_before(5) is None


def test_what_comes_after_a_phase_is_forgotten_when_the_phase_comes_again(states):
    for number in (4, 5, 4):
        states.write(at(number))
    assert states.read(5) is None


def test_forgets_everything_when_asked(states):
    states.write(STATE)
    states.clear()
    assert states.read(4) is None
    assert states.read_before(9) is None


def test_another_session_finds_nothing_and_leaves_nothing(tmp_path):
    first = FileStates.of_session(tmp_path, "first")
    first.write(STATE)
    assert FileStates.of_session(tmp_path, "first").read(4) is not None
    assert FileStates.of_session(tmp_path, "../second").read(4) is None
    assert first.read(4) is None
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("spoil", [lambda data: data[:100], lambda _: b"", lambda _: b"PK\x03\x04"])
def test_a_damaged_file_is_not_used(tmp_path, spoil, caplog):
    states = FileStates.of_session(tmp_path, "first")
    states.write(at(3))
    states.write(STATE)
    path = next(tmp_path.glob("*/4.state"))
    path.write_bytes(spoil(path.read_bytes()))
    assert states.read(4) is None
    assert "damaged" in caplog.text
    before = states.read_before(5)
    assert before is not None
    assert before.number == 3


def test_a_file_can_hold_no_code(tmp_path):
    states = FileStates.of_session(tmp_path, "first")
    states.write(STATE)
    path = next(tmp_path.glob("*/4.state"))
    torch.save({"number": print}, path)
    assert states.read(4) is None
