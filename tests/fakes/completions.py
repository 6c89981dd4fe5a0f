"""Chat completions as a scripted upstream gives them."""

import json

from tests.fakes.upstream import JSON, Answer


def answer_of(text: str | None, completion_tokens: int, finish_reason: str = "stop") -> Answer:
    """Return a whole, unstreamed answer."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 9, "completion_tokens": completion_tokens}
    return Answer([json.dumps({"choices": [choice], "usage": usage}).encode()], headers=JSON)
