import json

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import PlanRefused, ReplyRejected
from federation.protocol.protocol import ANSWER, answer
from federation.reasoner.messages import (
    HELLO,
    ReasonerInstruction,
    ReasonerProfile,
    lay_out_prompts,
    pack,
    read_profile,
    to_table,
    unpack,
)
from federation.reasoner.plan import BaseName, ReasonerPlan
from federation.reasoner.prompts import parse_prompts
from federation.reasoner.responses import Response
from federation.reasoner.settings import ReasonerSettings

PLAN = ReasonerPlan("first", BaseName("tiny", "ab" * 32, "cd" * 32, 12), ReasonerSettings(), 1)
PROFILE = ReasonerProfile("acme", "ab" * 32, "cd" * 32, 128)
VERIFIERS = [
    {"kind": "numeric", "reference": "42", "tolerance": 0.5},
    {"kind": "exact", "reference": ["yes", "yeah"], "case_sensitive": True},
    {"kind": "choice", "reference": "B", "choices": {"A": "one", "B": "two"}},
    {"kind": "regex", "pattern": "^4", "is_full": True},
    {"kind": "json_schema", "schema": {"type": "object"}},
]

pytestmark = pytest.mark.usefixtures("grid")

drawn = st.lists(st.tuples(st.integers(0, 11), st.floats(-20, 0, width=32)), max_size=5)
answers = st.lists(st.tuples(st.integers(0, 7), drawn), max_size=8)


@given(answers)
def test_answers_arrive_as_they_were_sent_without_their_texts(given_answers):
    sent = [
        (
            place,
            Response("words", tuple(t for t, _ in one), tuple(p for _, p in one), is_complete=True),
        )
        for place, one in given_answers
    ]
    for (place, response), (was_for, was) in zip(unpack(pack(sent)), sent, strict=True):
        assert place == was_for
        assert (response.tokens, response.log_probabilities) == (was.tokens, was.log_probabilities)
        assert response.text == ""


@pytest.mark.parametrize("verifier", VERIFIERS, ids=lambda v: v["kind"])
def test_public_prompts_arrive_as_they_were_sent(verifier):
    table = {
        "query_id": "first",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}],
        "verifier": verifier,
        "task": "sums",
    }
    prompts = parse_prompts([("here", table)])
    instruction = ReasonerInstruction(PLAN, 1, lay_out_prompts({4: prompts * 2, 8: prompts}))
    received = ReasonerInstruction.from_content(instruction.to_content())
    found = received.public_prompts()
    assert {number: len(batch) for number, batch in found.items()} == {4: 2, 8: 1}
    assert to_table(found[8][0]) == to_table(prompts[0])
    assert received.plan == PLAN


def test_an_instruction_of_another_protocol_is_refused():
    content = ReasonerInstruction(PLAN).to_content()
    content.config_records["plan"]["protocol"] = 99
    with pytest.raises(PlanRefused, match="run the same version on both"):
        ReasonerInstruction.from_content(content)


def reply_of(content):
    return Message(content, 1, HELLO)


def test_reads_the_profile_that_a_site_sent():
    assert read_profile(reply_of(answer(PROFILE))) == PROFILE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": ""}, "not text"),
        ({"name": 7}, "not text"),
        ({"prompts": -1}, "not a count"),
        ({"prompts": True}, "not a count"),
        ({"rows": 1}, "incomplete or of another version"),
    ],
)
def test_a_profile_that_is_none_is_rejected(change, reason):
    table = {**json.loads(str(answer(PROFILE)[ANSWER]["json"])), **change}
    message = reply_of(RecordDict({ANSWER: ConfigRecord({"json": json.dumps(table)})}))
    with pytest.raises(ReplyRejected, match=reason):
        read_profile(message)


def test_no_answers_are_laid_out_too():
    assert unpack(pack([])) == []
    assert {array.dtype for array in pack([]).values()} == {np.dtype("i4"), np.dtype("f4")}
