from typing import Any

import pytest

from gateway.expected_tokens import IMAGE_TOKENS, expected_prompt_tokens, expected_tokens

ENGLISH = "Explain why the sky is blue, and why it turns red when the sun goes down. " * 20


def tokens_of(content: Any, **fields: Any) -> int:
    return expected_prompt_tokens({"messages": [{"role": "user", "content": content}], **fields})


def test_english_has_about_one_token_for_four_characters() -> None:
    # o200k makes 361.
    assert tokens_of(ENGLISH) == pytest.approx(361, rel=0.1)


def test_a_script_of_three_bytes_a_character_counts_by_its_bytes() -> None:
    # o200k makes 6, cl100k 12.
    assert 6 <= expected_tokens("天空为什么是蓝色的") <= 12


def test_digits_make_more_tokens_than_letters_do() -> None:
    # o200k makes 1,800 of the first, where each digit stands alone, and 600 of the second.
    assert 450 < expected_tokens("9 0 4 " * 300) < 1_800
    assert 300 < expected_tokens("904\n" * 300) < 1_000


def test_a_long_text_counts_as_its_pieces_do() -> None:
    assert expected_tokens(ENGLISH * 200) == pytest.approx(200 * expected_tokens(ENGLISH))


def test_the_texts_of_parts_count_as_one_text_does() -> None:
    parts = [{"type": "text", "text": ENGLISH}, {"type": "text", "text": ENGLISH}]
    assert tokens_of(parts) == pytest.approx(tokens_of(ENGLISH * 2), abs=1)


def test_an_image_counts_the_same_however_many_bytes_it_has() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert tokens_of([image]) == tokens_of("") + IMAGE_TOKENS


@pytest.mark.parametrize("messages", [3, 300])
def test_every_message_counts(messages) -> None:
    body = {"messages": [{"role": "user", "content": ENGLISH}] * messages}
    assert expected_prompt_tokens(body) == pytest.approx(messages * tokens_of(ENGLISH), rel=1e-3)


def test_tools_and_their_calls_count() -> None:
    tools = [{"type": "function", "function": {"name": "look", "description": ENGLISH}}]
    assert tokens_of("", tools=tools) > tokens_of(ENGLISH)
    called = {"role": "assistant", "content": None, "tool_calls": tools}
    assert expected_prompt_tokens({"messages": [called]}) > tokens_of(ENGLISH)


@pytest.mark.parametrize("content", [None, 7, ["words", {"type": "text"}, {"type": ["image"]}]])
def test_what_is_no_text_counts_as_none(content) -> None:
    assert tokens_of(content) == tokens_of("")
