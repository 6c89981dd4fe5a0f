"""pydantic-ai: chat completions, Responses and Messages."""

import base64

import harness as h
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    city: str
    population: int


def chat():
    provider = OpenAIProvider(base_url=f"{h.URL}/v1", api_key=h.KEY)
    return OpenAIChatModel(h.MODEL, provider=provider)


def responses():
    provider = OpenAIProvider(base_url=f"{h.URL}/v1", api_key=h.KEY)
    return OpenAIResponsesModel(h.MODEL, provider=provider)


def messages():
    provider = AnthropicProvider(base_url=h.URL, api_key=h.KEY)
    return AnthropicModel(h.MODEL, provider=provider)


def checks(model):
    async def plain():
        h.same((await Agent(model()).run(h.ASK)).output, h.ANSWER)

    async def stream():
        async with Agent(model()).run_stream(h.ASK) as run:
            h.same("".join([piece async for piece in run.stream_text(delta=True)]), h.ANSWER)

    async def tools():
        agent = Agent(model())

        @agent.tool_plain
        def get_weather(city: str) -> str:
            """Weather of a city."""
            h.same(city, "Oslo")
            return h.WEATHER

        h.same((await agent.run(h.ASK_WEATHER)).output, h.ANSWER_WEATHER)

    async def structured():
        run = await Agent(model(), output_type=City).run(h.ASK_CITY)
        h.same(run.output.model_dump(), h.CITY)

    async def images():
        picture = BinaryContent(base64.b64decode(h.PIXEL), media_type="image/png")
        h.same((await Agent(model()).run([h.ASK_IMAGE, picture])).output, h.ANSWER_IMAGE)

    async def usage():
        used = (await Agent(model()).run(h.ASK)).usage
        used = used() if callable(used) else used
        h.same((used.input_tokens, used.output_tokens), h.USAGE)

    return {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "structured": structured,
        "images": images,
        "usage": usage,
        "error": h.refuses(lambda: Agent(model()).run(h.ASK_REFUSED)),
    }


h.run({"chat": checks(chat), "responses": checks(responses), "messages": checks(messages)})
