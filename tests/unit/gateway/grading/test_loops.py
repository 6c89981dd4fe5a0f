"""Answers that repeat themselves."""

import random
import time

import pytest

from gateway.grading.loops import is_loop

WORDS = "the of a river bridge that runs over under many old stone quiet light"
LINES = [f"Step {n}: take the next card and put it on pile number {n % 7}." for n in range(60)]
LOOPS = {
    "a word": "Well, " + "very " * 80,
    "a sentence": "First. " + "I will now check the result again. " * 12,
    "a paragraph": "Start.\n\n" + ("He went to the window and looked out.\nIt rained.\n\n" * 8),
    "broken off within": "So " + "let me think about this step by step. " * 9 + "let me thi",
    "the same few lines": "\n".join(LINES[n % 3] for n in range(40)) + "\nThe end of it all.",
    "two characters": "ha" * 200,
}
OTHERS = {
    "prose": " ".join(random.Random(0).choices(WORDS.split(), k=2_000)),
    "a list": "\n".join(LINES),
    "zeros": "0" * 500,
    "a rule": "=" * 500,
    "one letter": "a" * 500,
    "said three times": "No. " * 3,
    "code": "\n".join(["if x:", "    return y", "}", "end"] * 30) + f"\nprint({list(range(99))})",
    "nothing": "",
}


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS)
def test_a_loop_is_found(text):
    assert is_loop(text)


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_other_texts_are_none(text):
    assert not is_loop(text)


@pytest.mark.parametrize("text", ["ab" * 99_000 + "c", "\n" * 200_000, ("a" * 4_000 + "b") * 50])
def test_no_text_takes_long(text):
    began_s = time.process_time()

    is_loop(text)

    assert time.process_time() - began_s < 1.0  # the square of it would take longer
