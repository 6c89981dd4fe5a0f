import random
from collections import Counter

import pytest

from gateway.demo.questions import KINDS, draw_questions
from router_models.verifiers.verifiers import parse_verifier, verify


def test_questions_differ_and_each_kind_has_as_many():
    questions = draw_questions(random.Random(0), 300)
    assert len({question.text for question in questions}) == 300
    assert set(Counter(question.kind for question in questions).values()) == {100}
    assert questions == draw_questions(random.Random(0), 300)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_right_is_right_and_nothing_else(kind):
    for number in range(20):
        text, verifier = KINDS[kind](random.Random(number))
        spec = parse_verifier(verifier)
        assert verify(spec, verifier["reference"]) == 1.0
        assert verify(spec, "0") == 0.0
        assert text
