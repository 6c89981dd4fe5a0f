import copy
from typing import Any

import pytest

from gateway.routing.prefixes import is_marked, links

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "What is 2 + 2?"}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
TOLD = {"role": "tool", "tool_call_id": "a", "content": "4"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SEEN = {"role": "user", "content": [{"type": "text", "text": "And this?"}, PICTURE]}
MESSAGES: list[dict[str, Any]] = [SYSTEM, ASKED, CALLED, TOLD, SEEN]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
EPHEMERAL = {"type": "ephemeral"}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return copy.deepcopy({"messages": list(messages), **fields})


def test_a_conversation_that_goes_on_keeps_the_names_of_what_was_there() -> None:
    whole = links(body(*MESSAGES), 0)
    assert len(set(whole)) == len(MESSAGES)
    for n in range(1, len(MESSAGES)):
        assert links(body(*MESSAGES[:n]), 0) == whole[:n]


@pytest.mark.parametrize("position", range(len(MESSAGES)))
def test_a_message_that_differs_changes_its_name_and_all_that_follow(position) -> None:
    whole, changed = links(body(*MESSAGES), 0), copy.deepcopy(MESSAGES)
    if position == 2:
        changed[2]["tool_calls"][0]["function"]["arguments"] = "[]"
    elif position == 4:
        changed[4]["content"][1]["image_url"]["url"] += "B"
    else:
        changed[position]["content"] += " "
    other = links(body(*changed), 0)
    assert other[:position] == whole[:position]
    assert set(other[position:]).isdisjoint(whole)


@pytest.mark.parametrize(
    "changed",
    [
        body(*MESSAGES, tools=[TOOL]),
        body({**SYSTEM, "role": "developer"}, *MESSAGES[1:]),
        body(SYSTEM, {**ASKED, "name": "ann"}, *MESSAGES[2:]),
    ],
)
def test_tools_roles_and_names_are_part_of_a_prompt(changed) -> None:
    assert links(changed, 0)[-1] != links(body(*MESSAGES), 0)[-1]


def test_another_start_shares_no_name() -> None:
    assert set(links(body(*MESSAGES), 1)).isdisjoint(links(body(*MESSAGES), 2))


def test_a_mark_for_caching_that_moves_on_changes_no_name() -> None:
    plain, marked = body(*MESSAGES, tools=[TOOL]), body(*MESSAGES, tools=[TOOL])
    marked["messages"][4]["content"][0]["cache_control"] = EPHEMERAL
    marked["messages"][4]["content"][1]["cache_control"] = EPHEMERAL
    marked["messages"][0]["cache_control"] = EPHEMERAL
    marked["tools"][0]["cache_control"] = EPHEMERAL
    assert links(marked, 0) == links(plain, 0)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (body(*MESSAGES), False),
        (body({"role": "user", "content": '"cache_control"'}), False),
        (body(*MESSAGES, cache_control=EPHEMERAL), True),
        (body(*MESSAGES[:-1], {**ASKED, "cache_control": EPHEMERAL}), True),
        (body({"role": "user", "content": [{"type": "text", "cache_control": EPHEMERAL}]}), True),
        (body(ASKED, system=[{"type": "text", "text": "a", "cache_control": EPHEMERAL}]), True),
        (body(ASKED, system="cache_control"), False),
    ],
)
def test_marks_for_caching_are_found_wherever_they_may_be(asked, expected) -> None:
    assert is_marked(asked) is expected


@pytest.mark.parametrize("without", [{"input": [ASKED]}, {}, {"messages": 1}])
def test_a_body_without_messages_marks_nothing(without: dict[str, Any]) -> None:
    assert not is_marked(without)


def test_a_role_of_any_kind_has_a_name() -> None:
    strange = {"role": ["user"], "content": ASKED["content"]}
    assert links(body(strange), 0) != links(body(ASKED), 0)
    assert len(links(body({"content": "no role"}), 0)) == 1
