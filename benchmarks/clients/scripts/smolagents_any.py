"""smolagents: chat completions."""

import harness as h
from smolagents import ChatMessage, OpenAIModel, ToolCallingAgent, tool

# Results of other tools it sends as texts of the user, where the provider does not look for them.
FINAL = '<<call final_answer {"answer":"It is sunny."}>>'


def model():
    return OpenAIModel(model_id=h.MODEL, api_base=f"{h.URL}/v1", api_key=h.KEY)


def asked(text):
    return [ChatMessage(role="user", content=[{"type": "text", "text": text}])]


@tool
def get_weather(city: str) -> str:
    """Weather of a city.

    Args:
        city: Its name.
    """
    h.same(city, "Oslo")
    return h.WEATHER


def plain():
    h.same(model()(asked(h.ASK)).content, h.ANSWER)


def stream():
    pieces = [delta.content or "" for delta in model().generate_stream(asked(h.ASK))]
    h.same("".join(pieces), h.ANSWER)


def tools():
    agent = ToolCallingAgent(tools=[get_weather], model=model(), verbosity_level=0)
    h.same(agent.run(f"How is the weather? {FINAL}"), "It is sunny.")


def usage():
    used = model()(asked(h.ASK)).token_usage
    h.same((used.input_tokens, used.output_tokens), h.USAGE)


h.run(
    {
        "chat": {
            "plain": plain,
            "stream": stream,
            "tools": tools,
            "usage": usage,
            "error": h.refuses(lambda: model()(asked(h.ASK_REFUSED))),
        }
    }
)
