"""llama-index: OpenAI-like chat and embeddings, and an agent with a tool."""

import harness as h
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class City(BaseModel):
    """A city."""

    city: str
    population: int


def model():
    return OpenAILike(
        model=h.MODEL,
        api_base=f"{h.URL}/v1",
        api_key=h.KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


def get_weather(city: str) -> str:
    """Weather of a city."""
    h.same(city, "Oslo")
    return h.WEATHER


def asked(text):
    return [ChatMessage(text)]


def plain():
    h.same(model().chat(asked(h.ASK)).message.content, h.ANSWER)


def stream():
    h.same("".join(piece.delta for piece in model().stream_chat(asked(h.ASK))), h.ANSWER)


async def tools():
    agent = FunctionAgent(tools=[get_weather], llm=model())
    h.same((await agent.run(h.ASK_WEATHER)).response.content, h.ANSWER_WEATHER)


def structured():
    answer = model().as_structured_llm(City).chat(asked(h.ASK_CITY))
    h.same(answer.raw.model_dump(), h.CITY)


def images():
    look = ChatMessage(blocks=[TextBlock(text=h.ASK_IMAGE), ImageBlock(url=h.IMAGE)])
    h.same(model().chat([look]).message.content, h.ANSWER_IMAGE)


def usage():
    used = model().chat(asked(h.ASK)).raw.usage
    h.same((used.prompt_tokens, used.completion_tokens), h.USAGE)


def embeddings():
    embed = OpenAILikeEmbedding(model_name=h.EMBEDDINGS, api_base=f"{h.URL}/v1", api_key=h.KEY)
    h.same(embed.get_text_embedding_batch(["a", "b"]), [h.VECTOR] * 2)


h.run(
    {
        "chat": {
            "plain": plain,
            "stream": stream,
            "tools": tools,
            "structured": structured,
            "images": images,
            "usage": usage,
            "error": h.refuses(lambda: model().chat(asked(h.ASK_REFUSED))),
            "embeddings": embeddings,
        }
    }
)
