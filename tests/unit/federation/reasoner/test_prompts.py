from collections import Counter

import pytest

from federation.reasoner.prompts import (
    InvalidPrompt,
    batch_of,
    parse_prompts,
    tokenizer_sha256,
    tokens_of,
)
from router_models.verifiers.verifiers import NumericSpec
from tests.fakes.digits import MARKER, DigitTokenizer, digit_prompt

NUMERIC = {"kind": "numeric", "reference": "7"}
PROMPTS = [digit_prompt(str(number)) for number in range(5)]


def test_reads_the_tables_of_calibration():
    table = {"query_id": "a", "text": "3 + 4?", "task": "sums", "verifier": NUMERIC}
    (prompt,) = parse_prompts([("file:1", table)])
    assert (prompt.id, prompt.task, prompt.verifier) == ("a", "sums", NumericSpec("7"))
    assert [(one.role, one.content) for one in prompt.messages] == [("user", "3 + 4?")]


def test_reads_conversations_and_json_texts():
    table = {
        "query_id": "a",
        "messages": '[{"role": "system", "content": "Be brief."}, '
        '{"role": "user", "content": "?"}]',
        "verifier": '{"kind": "numeric", "reference": "7"}',
    }
    (prompt,) = parse_prompts([("file:1", table)])
    assert [one.role for one in prompt.messages] == ["system", "user"]
    assert prompt.verifier == NumericSpec("7")


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"text": "?", "verifier": NUMERIC}, "query_id"),
        ({"query_id": "a", "text": "?"}, "verifier"),
        ({"query_id": "a", "text": "?", "verifier": "{"}, "verifier"),
        ({"query_id": "a", "verifier": NUMERIC}, "text"),
        ({"query_id": "a", "messages": [], "verifier": NUMERIC}, "message"),
        ({"query_id": "a", "messages": [{"role": "user"}], "verifier": NUMERIC}, "messages"),
        (
            {"query_id": "a", "messages": [{"role": "user", "content": 3}], "verifier": NUMERIC},
            "content",
        ),
    ],
)
def test_says_where_a_table_is_wrong(table, complaint):
    with pytest.raises(InvalidPrompt, match=f"^file:7: .*{complaint}"):
        parse_prompts([("file:7", table)])


def test_refuses_two_prompts_of_one_id():
    table = {"query_id": "a", "text": "?", "verifier": NUMERIC}
    with pytest.raises(InvalidPrompt, match="twice"):
        parse_prompts([("file:1", table), ("file:2", table)])


def test_a_conversation_becomes_the_tokens_of_the_chat_template():
    assert tokens_of(digit_prompt("4?2"), DigitTokenizer()) == (4, MARKER, 2)


def test_every_prompt_comes_before_any_comes_again():
    drawn = [one.id for step in range(5) for one in batch_of(PROMPTS, 3, step, seed=1)]
    assert set(Counter(drawn[:5]).values()) == set(Counter(drawn[5:10]).values()) == {1}
    assert set(Counter(drawn).values()) == {3}


def test_the_seed_alone_decides_the_batches():
    assert batch_of(PROMPTS, 4, 7, seed=1) == batch_of(PROMPTS, 4, 7, seed=1)
    assert batch_of(PROMPTS, 4, 7, seed=1) != batch_of(PROMPTS, 4, 7, seed=2)


def test_tokenizers_that_differ_in_one_token_have_different_digests():
    class Other(DigitTokenizer):
        def get_vocab(self) -> dict[str, int]:
            return {**super().get_vocab(), "0": 1, "1": 0}

    assert tokenizer_sha256(Other()) != tokenizer_sha256(DigitTokenizer())
    assert tokenizer_sha256(DigitTokenizer()) == tokenizer_sha256(DigitTokenizer())
