"""The classifiers, on the labelled sentences of their benchmark."""

import time

import pytest

from benchmarks.unasked_grades.measure import figures
from gateway.grading.phrases import load_phrases


@pytest.mark.parametrize("part", ["dev", "test"])
def test_what_the_classifiers_say_is_nearly_always_right(part):
    for name, told in figures(part).items():
        assert told["precision"] >= 0.9, name
        assert told["recall"] >= 0.75, name


HOSTILE = (
    "no, " * 9_999,
    "ok great " * 9_999,
    "but thanks, " * 9_999,
    "sorry but i " * 999,
    "謝" * 9_999,
    "i meant " + "a " * 600,
    "thanks" + " a" * 400,
    "\u0301" * 99_999,
)


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:8] for text in HOSTILE])
def test_no_text_takes_long(text):
    phrases = load_phrases()
    began_s = time.process_time()

    for shown in (text, text[:900]):
        phrases.is_refusal(shown)
        phrases.reaction_in(shown)
        phrases.asks_again(shown)

    assert time.process_time() - began_s < 1.0  # the square of it would take longer
