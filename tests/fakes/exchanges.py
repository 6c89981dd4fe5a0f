"""Exchanges to grade: a question, and what a model answered."""

from typing import Any

from gateway.exact_json import dumps
from gateway.grading.exchange import Exchange, GivenAnswer, ToolCall
from gateway.types import Caller, Usage
from gateway.wire import parse_chat_request
from tests.fakes.turns import make_turn

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def make_exchange(
    text: str = "",
    *calls: tuple[str, str],
    query: str = "hello",
    finish_reason: str = "stop",
    is_whole: bool = True,
    number: int = 0,
    team_id: str = "default",
    tokens: int = 1_000,
    **fields: Any,
) -> Exchange:
    """Make an exchange of one question, or of the `messages` in the request's `fields`."""
    fields.setdefault("messages", [{"role": "user", "content": query}])
    record = make_turn(
        number,
        team_id=team_id,
        finish_reason=finish_reason,
        usage=Usage(10, tokens),
        allotted_tokens=None,
    )
    asked = parse_chat_request(dumps({"model": "auto", **fields}), {})
    answer = GivenAnswer(text, tuple(ToolCall(*call) for call in calls), finish_reason, is_whole)
    return Exchange(record, asked, Caller("key", team_id), answer)
