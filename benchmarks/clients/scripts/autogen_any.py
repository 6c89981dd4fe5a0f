"""autogen: chat completions and Messages."""

import harness as h
from autogen_agentchat.agents import AssistantAgent
from autogen_core import Image
from autogen_core.models import UserMessage
from autogen_ext.models.anthropic import AnthropicChatCompletionClient
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel

INFO = {
    "vision": True,
    "function_calling": True,
    "json_output": True,
    "structured_output": True,
    "multiple_system_messages": True,
    "family": "unknown",
}


class City(BaseModel):
    city: str
    population: int


async def get_weather(city: str) -> str:
    """Weather of a city."""
    h.same(city, "Oslo")
    return h.WEATHER


def chat():
    return OpenAIChatCompletionClient(
        model=h.MODEL, base_url=f"{h.URL}/v1", api_key=h.KEY, max_retries=0, model_info=INFO
    )


def messages():
    return AnthropicChatCompletionClient(
        model=h.MODEL, base_url=h.URL, api_key=h.KEY, max_retries=0, model_info=INFO
    )


def asked(content):
    return [UserMessage(content=content, source="user")]


def checks(model):
    async def plain():
        h.same((await model().create(asked(h.ASK))).content, h.ANSWER)

    async def stream():
        pieces = [piece async for piece in model().create_stream(asked(h.ASK))]
        h.same("".join(piece for piece in pieces if isinstance(piece, str)), h.ANSWER)

    async def tools():
        agent = AssistantAgent(
            "guide", model_client=model(), tools=[get_weather], reflect_on_tool_use=True
        )
        done = await agent.run(task=h.ASK_WEATHER)
        h.same(done.messages[-1].content, h.ANSWER_WEATHER)

    async def images():
        picture = Image.from_base64(h.PIXEL)
        h.same((await model().create(asked([h.ASK_IMAGE, picture]))).content, h.ANSWER_IMAGE)

    async def usage():
        used = (await model().create(asked(h.ASK))).usage
        h.same((used.prompt_tokens, used.completion_tokens), h.USAGE)

    return {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "images": images,
        "usage": usage,
        "error": h.refuses(lambda: model().create(asked(h.ASK_REFUSED))),
    }


async def structured():
    answer = await chat().create(asked(h.ASK_CITY), json_output=City)
    h.same(City.model_validate_json(answer.content).model_dump(), h.CITY)


h.run({"chat": checks(chat) | {"structured": structured}, "messages": checks(messages)})
