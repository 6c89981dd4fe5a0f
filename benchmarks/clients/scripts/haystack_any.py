"""haystack: chat completions, Responses and embeddings."""

import harness as h
from haystack.components.agents import Agent
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, ImageContent
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from pydantic import BaseModel


class City(BaseModel):
    city: str
    population: int


def get_weather(city: str) -> str:
    """Weather of a city."""
    h.same(city, "Oslo")
    return h.WEATHER


def checks(kind, schema):
    def model(**more):
        key = Secret.from_token(h.KEY)
        return kind(api_key=key, model=h.MODEL, api_base_url=f"{h.URL}/v1", max_retries=0, **more)

    def asked(text, **more):
        return model(**more).run([ChatMessage.from_user(text)])["replies"][0]

    def plain():
        h.same(asked(h.ASK).text, h.ANSWER)

    def stream():
        pieces = []
        asked(h.ASK, streaming_callback=lambda chunk: pieces.append(chunk.content or ""))
        h.same("".join(pieces), h.ANSWER)

    def tools():
        agent = Agent(chat_generator=model(), tools=[create_tool_from_function(get_weather)])
        done = agent.run(messages=[ChatMessage.from_user(h.ASK_WEATHER)])
        h.same(done["messages"][-1].text, h.ANSWER_WEATHER)

    def structured():
        text = asked(h.ASK_CITY, generation_kwargs={schema: City}).text
        h.same(City.model_validate_json(text).model_dump(), h.CITY)

    def images():
        picture = ImageContent(base64_image=h.PIXEL, mime_type="image/png")
        look = ChatMessage.from_user(content_parts=[h.ASK_IMAGE, picture])
        h.same(model().run([look])["replies"][0].text, h.ANSWER_IMAGE)

    def usage():
        used = asked(h.ASK).meta["usage"]
        names = ("prompt_tokens", "completion_tokens")
        names = names if names[0] in used else ("input_tokens", "output_tokens")
        h.same(tuple(used[name] for name in names), h.USAGE)

    return {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "structured": structured,
        "images": images,
        "usage": usage,
        "error": h.refuses(lambda: asked(h.ASK_REFUSED)),
    }


def embeddings():
    embed = OpenAITextEmbedder(
        api_key=Secret.from_token(h.KEY), model=h.EMBEDDINGS, api_base_url=f"{h.URL}/v1"
    )
    h.same(embed.run("a")["embedding"], h.VECTOR)


h.run(
    {
        "chat": checks(OpenAIChatGenerator, "response_format") | {"embeddings": embeddings},
        "responses": checks(OpenAIResponsesChatGenerator, "text_format"),
    }
)
