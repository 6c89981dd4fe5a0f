"""litellm: chat completions, Responses, Messages and embeddings."""

import json

import harness as h
import litellm
from pydantic import BaseModel

TOOL = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
TOOLS = [{"type": "function", "function": TOOL}]
LOOK = [
    {"type": "text", "text": h.ASK_IMAGE},
    {"type": "image_url", "image_url": {"url": h.IMAGE}},
]


class City(BaseModel):
    city: str
    population: int


def user(content):
    return [{"role": "user", "content": content}]


def checks(provider, path):
    def ask(messages, **more):
        return litellm.completion(
            model=f"{provider}/{h.MODEL}",
            api_base=h.URL + path,
            api_key=h.KEY,
            messages=messages,
            num_retries=0,
            **more,
        )

    def plain():
        h.same(ask(user(h.ASK)).choices[0].message.content, h.ANSWER)

    def stream():
        chunks = ask(user(h.ASK), stream=True)
        h.same("".join(c.choices[0].delta.content or "" for c in chunks), h.ANSWER)

    def tools():
        first = ask(user(h.ASK_WEATHER), tools=TOOLS).choices[0].message
        (call,) = first.tool_calls
        h.same(json.loads(call.function.arguments), {"city": "Oslo"})
        result = {"role": "tool", "tool_call_id": call.id, "content": h.WEATHER}
        last = ask([*user(h.ASK_WEATHER), first.model_dump(), result], tools=TOOLS)
        h.same(last.choices[0].message.content, h.ANSWER_WEATHER)

    def structured():
        answer = ask(user(h.ASK_CITY), response_format=City)
        h.same(json.loads(answer.choices[0].message.content), h.CITY)

    def images():
        h.same(ask(user(LOOK)).choices[0].message.content, h.ANSWER_IMAGE)

    def usage():
        used = ask(user(h.ASK)).usage
        h.same((used.prompt_tokens, used.completion_tokens), h.USAGE)

    return {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "structured": structured,
        "images": images,
        "usage": usage,
        "error": h.refuses(lambda: ask(user(h.ASK_REFUSED))),
    }


def embeddings():
    found = litellm.embedding(
        model=f"openai/{h.EMBEDDINGS}", api_base=f"{h.URL}/v1", api_key=h.KEY, input=["a", "b"]
    )
    h.same([item["embedding"] for item in found.data], [h.VECTOR] * 2)


def responses(text):
    return litellm.responses(
        model=f"openai/{h.MODEL}", api_base=f"{h.URL}/v1", api_key=h.KEY, input=text
    )


def responses_plain():
    h.same(responses(h.ASK).output[-1].content[0].text, h.ANSWER)


h.run(
    {
        "openai": checks("openai", "/v1") | {"embeddings": embeddings},
        "responses": {
            "plain": responses_plain,
            "error": h.refuses(lambda: responses(h.ASK_REFUSED)),
        },
        "anthropic": checks("anthropic", ""),
    }
)
