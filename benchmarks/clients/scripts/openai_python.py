"""openai: chat completions, Responses and embeddings, sync and async."""

import json

import harness as h
import openai
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{h.URL}/v1", api_key=h.KEY, max_retries=0)


def aclient() -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{h.URL}/v1", api_key=h.KEY, max_retries=0)


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"name": "get_weather", "description": "Weather of a city.", "parameters": SCHEMA}
CHAT_TOOLS = [{"type": "function", "function": TOOL}]
TOOLS = [{"type": "function", "strict": True, **TOOL}]
PICTURE = [
    {"type": "text", "text": h.ASK_IMAGE},
    {"type": "image_url", "image_url": {"url": h.IMAGE}},
]
LOOK = [
    {"type": "input_text", "text": h.ASK_IMAGE},
    {"type": "input_image", "image_url": h.IMAGE, "detail": "auto"},
]


class City(BaseModel):
    city: str
    population: int


def user(content):
    return [{"role": "user", "content": content}]


def chat(content, **more):
    return client.chat.completions.create(model=h.MODEL, messages=user(content), **more)


def respond(asked, **more):
    return client.responses.create(model=h.MODEL, input=asked, store=False, **more)


def chat_plain():
    h.same(chat(h.ASK).choices[0].message.content, h.ANSWER)


def chat_stream():
    with client.chat.completions.stream(model=h.MODEL, messages=user(h.ASK)) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
    h.same("".join(pieces), h.ANSWER)


def chat_tools():
    first = chat(h.ASK_WEATHER, tools=CHAT_TOOLS).choices[0].message
    (call,) = first.tool_calls
    h.same(json.loads(call.function.arguments), {"city": "Oslo"})
    result = {"role": "tool", "tool_call_id": call.id, "content": h.WEATHER}
    messages = [*user(h.ASK_WEATHER), first, result]
    with client.chat.completions.stream(
        model=h.MODEL, messages=messages, tools=CHAT_TOOLS
    ) as stream:
        last = stream.get_final_completion()
    h.same(last.choices[0].message.content, h.ANSWER_WEATHER)


def chat_structured():
    parsed = client.chat.completions.parse(
        model=h.MODEL, messages=user(h.ASK_CITY), response_format=City
    )
    h.same(parsed.choices[0].message.parsed.model_dump(), h.CITY)


def chat_images():
    h.same(chat(PICTURE).choices[0].message.content, h.ANSWER_IMAGE)


def chat_usage():
    used = chat(h.ASK).usage
    h.same((used.prompt_tokens, used.completion_tokens), h.USAGE)
    chunks = list(chat(h.ASK, stream=True, stream_options={"include_usage": True}))
    used = chunks[-1].usage
    h.same((used.prompt_tokens, used.completion_tokens), h.USAGE)


async def achat_stream():
    async with aclient() as one:
        stream = await one.chat.completions.create(model=h.MODEL, messages=user(h.ASK), stream=True)
        pieces = [c.choices[0].delta.content or "" async for c in stream if c.choices]
    h.same("".join(pieces), h.ANSWER)


async def achat_plain():
    async with aclient() as one:
        answer = await one.chat.completions.create(model=h.MODEL, messages=user(h.ASK))
    h.same(answer.choices[0].message.content, h.ANSWER)


def responses_plain():
    h.same(respond(h.ASK).output_text, h.ANSWER)


def responses_stream():
    with client.responses.stream(model=h.MODEL, input=h.ASK, store=False) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    h.same("".join(pieces), h.ANSWER)
    h.same(final.output_text, h.ANSWER)


def responses_tools():
    first = respond(h.ASK_WEATHER, tools=TOOLS)
    (call,) = [item for item in first.output if item.type == "function_call"]
    h.same(json.loads(call.arguments), {"city": "Oslo"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": h.WEATHER}
    last = respond([*user(h.ASK_WEATHER), *first.output, result], tools=TOOLS)
    h.same(last.output_text, h.ANSWER_WEATHER)


def responses_structured():
    parsed = client.responses.parse(model=h.MODEL, input=h.ASK_CITY, text_format=City, store=False)
    h.same(parsed.output_parsed.model_dump(), h.CITY)


def responses_images():
    h.same(respond(user(LOOK)).output_text, h.ANSWER_IMAGE)


def responses_usage():
    used = respond(h.ASK).usage
    h.same((used.input_tokens, used.output_tokens), h.USAGE)


async def aresponses_plain():
    async with aclient() as one:
        answer = await one.responses.create(model=h.MODEL, input=h.ASK, store=False)
    h.same(answer.output_text, h.ANSWER)


async def aresponses_stream():
    async with aclient() as one:
        stream = await one.responses.create(model=h.MODEL, input=h.ASK, store=False, stream=True)
        pieces = [e.delta async for e in stream if e.type == "response.output_text.delta"]
    h.same("".join(pieces), h.ANSWER)


def embeddings():
    found = client.embeddings.create(model=h.EMBEDDINGS, input=["a", "b"])
    h.same([item.embedding for item in found.data], [h.VECTOR] * 2)


async def aembeddings():
    async with aclient() as one:
        found = await one.embeddings.create(model=h.EMBEDDINGS, input="a", encoding_format="float")
    h.same(found.data[0].embedding, h.VECTOR)


h.run(
    {
        "chat": {
            "plain": chat_plain,
            "stream": chat_stream,
            "tools": chat_tools,
            "structured": chat_structured,
            "images": chat_images,
            "usage": chat_usage,
            "error": h.refuses(lambda: chat(h.ASK_REFUSED)),
            "embeddings": embeddings,
        },
        "chat, async": {
            "plain": achat_plain,
            "stream": achat_stream,
            "embeddings": aembeddings,
        },
        "responses": {
            "plain": responses_plain,
            "stream": responses_stream,
            "tools": responses_tools,
            "structured": responses_structured,
            "images": responses_images,
            "usage": responses_usage,
            "error": h.refuses(lambda: respond(h.ASK_REFUSED)),
        },
        "responses, async": {"plain": aresponses_plain, "stream": aresponses_stream},
    }
)
