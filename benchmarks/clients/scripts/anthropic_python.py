"""anthropic: Messages."""

import anthropic
import harness as h
from pydantic import BaseModel

client = anthropic.Anthropic(base_url=h.URL, api_key=h.KEY, max_retries=0)
TOOLS = [
    {
        "name": "get_weather",
        "description": "Weather of a city.",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    }
]
PICTURE = [
    {"type": "text", "text": h.ASK_IMAGE},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": h.PIXEL}},
]


class City(BaseModel):
    city: str
    population: int


def asked(content, **more):
    messages = content if isinstance(content, list) and "role" in content[0] else None
    messages = messages or [{"role": "user", "content": content}]
    return {"model": h.MODEL, "max_tokens": 1000, "messages": messages, **more}


def ask(content, **more):
    return client.messages.create(**asked(content, **more))


def plain():
    h.same(ask(h.ASK).content[0].text, h.ANSWER)


def stream():
    with client.messages.stream(**asked(h.ASK)) as stream:
        h.same("".join(stream.text_stream), h.ANSWER)


def tools():
    first = ask(h.ASK_WEATHER, tools=TOOLS)
    (call,) = [block for block in first.content if block.type == "tool_use"]
    h.same(call.input, {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": h.WEATHER}
    history = [
        {"role": "user", "content": h.ASK_WEATHER},
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    with client.messages.stream(**asked(history, tools=TOOLS)) as stream:
        h.same(stream.get_final_message().content[0].text, h.ANSWER_WEATHER)


def structured():
    parsed = client.messages.parse(**asked(h.ASK_CITY, output_format=City))
    h.same(parsed.parsed_output.model_dump(), h.CITY)


def images():
    h.same(ask(PICTURE).content[0].text, h.ANSWER_IMAGE)


def usage():
    used = ask(h.ASK).usage
    h.same((used.input_tokens, used.output_tokens), h.USAGE)
    with client.messages.stream(**asked(h.ASK)) as stream:
        used = stream.get_final_message().usage
    h.same((used.input_tokens, used.output_tokens), h.USAGE)


async def aplain():
    async with anthropic.AsyncAnthropic(base_url=h.URL, api_key=h.KEY) as one:
        h.same((await one.messages.create(**asked(h.ASK))).content[0].text, h.ANSWER)


async def astream():
    async with (
        anthropic.AsyncAnthropic(base_url=h.URL, api_key=h.KEY) as one,
        one.messages.stream(**asked(h.ASK)) as stream,
    ):
        h.same("".join([text async for text in stream.text_stream]), h.ANSWER)


h.run(
    {
        "messages": {
            "plain": plain,
            "stream": stream,
            "tools": tools,
            "structured": structured,
            "images": images,
            "usage": usage,
            "error": h.refuses(lambda: ask(h.ASK_REFUSED)),
        },
        "messages, async": {"plain": aplain, "stream": astream},
    }
)
