from typing import Any

import pytest

from gateway.budgets.conversation import AnsweredConversations, conversation, end_user, opening
from gateway.types import Caller
from tests.fakes.budgets import asked

BLUE = Caller("k1", "blue")
GREEN = Caller("k1", "green")


def named(caller: Caller = BLUE, *, from_prefix: bool = False, **body):
    return conversation(asked(**body), caller, from_prefix=from_prefix)


def history(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]
    return [{"role": "system", "content": "Be brief."}, *turns]


def test_a_request_without_names_belongs_to_nobody():
    assert end_user(asked(), BLUE) is None
    assert named() is None
    assert named(user="", conversation={}, prompt_cache_key=7) is None


def test_the_end_user_is_openai_s_field_the_newer_first():
    assert end_user(asked(user="alice"), BLUE) == end_user(
        asked(user="bob", safety_identifier="alice"), BLUE
    )


def test_the_same_names_under_two_teams_are_two_scopes():
    assert end_user(asked(user="alice"), BLUE) != end_user(asked(user="alice"), GREEN)
    assert named(conversation="c") != named(GREEN, conversation="c")
    messages = history("Hi")
    assert named(from_prefix=True, messages=messages) != named(
        GREEN, from_prefix=True, messages=messages
    )


def test_the_gateway_s_own_id_comes_first():
    header = {b"x-waypost-conversation-id": b"talk"}
    fields: dict[str, Any] = {
        "conversation": "b",
        "prompt_cache_key": "c",
        "previous_response_id": "d",
    }

    assert named(headers=header, **fields) == named(conversation="talk")
    assert named(**fields) == named(conversation={"id": "b"})
    del fields["conversation"]
    assert named(**fields) == named(prompt_cache_key="c")
    assert named(previous_response_id="d") == named(conversation="d")


def test_an_answer_remembered_leads_back_to_its_conversation():
    answers = AnsweredConversations(max_answers=2)
    for number in range(3):
        answers.note("blue", f"a{number}", f"digest {number}")
    request = asked(previous_response_id="a2")

    assert conversation(request, BLUE, from_prefix=False, answers=answers) == "digest 2"
    assert answers.conversation_of("green", "a2") is None
    assert answers.conversation_of("blue", "a0") is None
    unknown = conversation(
        asked(previous_response_id="a0"), BLUE, from_prefix=False, answers=answers
    )
    assert unknown == named(conversation="a0")


def test_a_growing_history_stays_one_conversation():
    first = named(from_prefix=True, messages=history("Hi"))

    assert first == named(from_prefix=True, messages=history("Hi", "Hello!", "How are you?"))
    assert first != named(from_prefix=True, messages=history("Hi there"))
    assert first != named(from_prefix=True, messages=history("Hi")[1:])
    assert named(messages=history("Hi")) is None


def test_who_speaks_tells_equal_openings_apart():
    messages = history("Hi")
    other_key = Caller("k2", "blue")

    assert named(from_prefix=True, messages=messages) != named(
        other_key, from_prefix=True, messages=messages
    )
    assert named(from_prefix=True, messages=messages, user="a") != named(
        from_prefix=True, messages=messages, user="b"
    )


def test_an_opening_and_a_name_are_never_the_same():
    messages = history("Hi")

    assert named(from_prefix=True, messages=messages) != named(conversation=opening(messages))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("ab", "abc"),
        (["a", "b"], ["ab"]),
        ([{"type": "text", "text": "a"}], [{"type": "text", "text": "b"}]),
        ([{"type": "image_url", "image_url": {"url": "x"}}], [{"type": "text", "text": "x"}]),
        (None, ""),
        ("x" * 70_000, "x" * 70_001),
        ([1], [None]),
    ],
    ids=str,
)
def test_different_openings_differ(one, two):
    assert opening([{"role": "user", "content": one}]) != opening(
        [{"role": "user", "content": two}]
    )


def test_content_nested_deeply_is_hashed_in_bounded_time():
    content: list[Any] = []
    for _ in range(5000):
        content = [content]

    assert opening([{"role": "user", "content": content}])
    assert opening([{"role": "user", "content": "\ud800"}])
