from typing import Any

import pytest

from gateway.errors import ProviderRejected
from gateway.providers.anthropic_messages import OPENING, conversation


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}


def test_takes_instructions_out_of_the_turns() -> None:
    system, turns = conversation(
        [
            {"role": "system", "content": "A."},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": [text("B.", cache_control={"type": "ephemeral"})]},
        ]
    )
    assert system == [text("A."), text("B.", cache_control={"type": "ephemeral"})]
    assert turns == [user(text("Hi"))]


def test_joins_neighbours_of_one_role() -> None:
    _, turns = conversation(
        [{"role": "user", "content": "a"}, {"role": "user", "content": [text("b")]}]
    )
    assert turns == [user(text("a"), text("b"))]


def test_merges_tool_results_into_one_user_turn() -> None:
    second = {**CALL, "id": "c2", "function": {"name": "g", "arguments": ""}}
    _, turns = conversation(
        [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "Calling.", "tool_calls": [CALL, second]},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [text("two")]},
            {"role": "tool", "tool_call_id": "c3", "content": None},
            {"role": "user", "content": "and now?"},
        ]
    )
    assert turns[1] == {
        "role": "assistant",
        "content": [
            text("Calling."),
            {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
        ],
    }
    assert turns[2] == user(
        {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
        {"type": "tool_result", "tool_use_id": "c2", "content": [text("two")]},
        {"type": "tool_result", "tool_use_id": "c3"},
        text("and now?"),
    )


def test_translates_images_and_documents() -> None:
    _, turns = conversation(
        [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,AAA="}},
                    {
                        "type": "file",
                        "file": {
                            "filename": "a.pdf",
                            "file_data": "data:application/pdf;base64,BBB=",
                        },
                    },
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,CCC="}},
                ],
            }
        ]
    )
    pdf = {"type": "base64", "media_type": "application/pdf"}
    assert turns == [
        user(
            {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "AAA="},
            },
            {"type": "document", "source": {**pdf, "data": "BBB="}, "title": "a.pdf"},
            {"type": "document", "source": {**pdf, "data": "CCC="}},
        )
    ]


def test_leaves_empty_texts_out() -> None:
    _, turns = conversation(
        [
            {"role": "user", "content": [text(""), text("Hi")]},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "more"},
        ]
    )
    assert turns == [user(text("Hi"), text("more"))]


def test_a_refusal_of_before_is_text() -> None:
    _, turns = conversation(
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ]
    )
    assert turns[1] == {"role": "assistant", "content": [text("No.")]}


@pytest.mark.parametrize(
    "messages",
    [
        None,
        "Hi",
        [],
        ["Hi"],
        [{"content": "Hi"}],
        [{"role": "system", "content": "only"}],
        [{"role": "function", "name": "f", "content": "x"}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": ["Hi"]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}],
        [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AA"}}
                ],
            }
        ],
        [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f1"}}]}],
        [{"role": "assistant", "function_call": {"name": "f"}}],
        [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}],
        [{"role": "assistant", "tool_calls": [{**CALL, "function": {"arguments": "{}"}}]}],
        [
            {
                "role": "assistant",
                "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}],
            }
        ],
        [
            {
                "role": "assistant",
                "tool_calls": [
                    {**CALL, "function": {"name": "f", "arguments": "[" * 2_000_001}},
                ],
            }
        ],
        [
            {
                "role": "assistant",
                "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "[]"}}],
            }
        ],
        [{"role": "tool", "content": "x"}],
    ],
)
def test_refuses_what_it_cannot_translate(messages: Any) -> None:
    with pytest.raises(ProviderRejected) as caught:
        conversation(messages)
    assert caught.value.body is not None
    assert caught.value.body["param"].startswith("messages")


def calling(call_id: str) -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": "{}"}
    call = {"id": call_id, "type": "function", "function": function}
    return [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": " \n"},
    ]


def test_an_id_that_a_host_gave_twice_is_told_apart_and_stays_so() -> None:
    talk = [{"role": "user", "content": "Hi"}, *calling("call_0"), *calling("call_0")]

    def ids(turns: list[dict[str, Any]]) -> list[str]:
        blocks = [block for turn in turns for block in turn["content"] if block["type"] != "text"]
        return [block.get("id") or block["tool_use_id"] for block in blocks]

    first, second = ids(conversation(talk)[1])[::2]
    assert (first, ids(conversation(talk)[1])) == ("call_0", [first, first, second, second])
    assert first != second
    assert ids(conversation([*talk, *calling("call_0")])[1])[:4] == [first, first, second, second]


def test_a_result_of_blanks_is_an_empty_one() -> None:
    _, turns = conversation([{"role": "user", "content": "Hi"}, *calling("a")])
    assert turns[-1]["content"][0]["content"] == ""


def test_a_user_speaks_before_a_model_that_greets() -> None:
    greeting = {"role": "assistant", "content": "Hello!"}
    _, turns = conversation([greeting, {"role": "user", "content": "Hi"}])
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[0]["content"] == [{"type": "text", "text": OPENING}]
