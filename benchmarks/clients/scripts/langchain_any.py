"""langchain-openai, by chat completions and Responses, and langchain-anthropic, by Messages."""

import harness as h
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

LOOK = HumanMessage(
    [
        {"type": "text", "text": h.ASK_IMAGE},
        {"type": "image", "base64": h.PIXEL, "mime_type": "image/png"},
    ]
)


class City(BaseModel):
    """A city."""

    city: str
    population: int


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    h.same(city, "Oslo")
    return h.WEATHER


def chat():
    return ChatOpenAI(model=h.MODEL, base_url=f"{h.URL}/v1", api_key=h.KEY, max_retries=0)


def responses():
    return ChatOpenAI(
        model=h.MODEL,
        base_url=f"{h.URL}/v1",
        api_key=h.KEY,
        max_retries=0,
        use_responses_api=True,
    )


def messages():
    return ChatAnthropic(model=h.MODEL, base_url=h.URL, api_key=h.KEY, max_retries=0)


def checks(model):
    def plain():
        h.same(model().invoke(h.ASK).text, h.ANSWER)

    def stream():
        h.same("".join(chunk.text for chunk in model().stream(h.ASK)), h.ANSWER)

    def tools():
        able = model().bind_tools([get_weather])
        asked = HumanMessage(h.ASK_WEATHER)
        first = able.invoke([asked])
        (call,) = first.tool_calls
        result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
        h.same(able.invoke([asked, first, result]).text, h.ANSWER_WEATHER)
        streamed = None
        for chunk in able.stream([asked]):
            streamed = chunk if streamed is None else streamed + chunk
        h.same(streamed.tool_calls[0]["args"], {"city": "Oslo"})

    def structured():
        h.same(model().with_structured_output(City).invoke(h.ASK_CITY).model_dump(), h.CITY)

    def images():
        h.same(model().invoke([LOOK]).text, h.ANSWER_IMAGE)

    def usage():
        used = model().invoke(h.ASK).usage_metadata
        h.same((used["input_tokens"], used["output_tokens"]), h.USAGE)

    return {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "structured": structured,
        "images": images,
        "usage": usage,
        "error": h.refuses(lambda: model().invoke(h.ASK_REFUSED)),
    }


def embeddings():
    # By default it counts tokens first, with a vocabulary that it fetches from elsewhere.
    embed = OpenAIEmbeddings(
        model=h.EMBEDDINGS,
        base_url=f"{h.URL}/v1",
        api_key=h.KEY,
        check_embedding_ctx_length=False,
    )
    h.same(embed.embed_documents(["a", "b"]), [h.VECTOR] * 2)


h.run(
    {
        "openai, chat": checks(chat) | {"embeddings": embeddings},
        "openai, responses": checks(responses),
        "anthropic": checks(messages),
    }
)
