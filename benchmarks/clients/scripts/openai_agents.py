"""openai-agents: its default, Responses, and chat completions."""

import agents
import harness as h
import openai
from agents import Agent, ModelSettings, Runner, function_tool
from pydantic import BaseModel

agents.set_tracing_disabled(disabled=True)


class City(BaseModel):
    city: str
    population: int


@function_tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    h.same(city, "Oslo")
    return h.WEATHER


def checks(kind):
    def agent(**more):
        client = openai.AsyncOpenAI(base_url=f"{h.URL}/v1", api_key=h.KEY, max_retries=0)
        return Agent(name="guide", model=kind(h.MODEL, openai_client=client), **more)

    async def plain():
        h.same((await Runner.run(agent(), h.ASK)).final_output, h.ANSWER)

    async def stream():
        run = Runner.run_streamed(agent(), h.ASK)
        events = [e async for e in run.stream_events() if e.type == "raw_response_event"]
        deltas = [e.data.delta for e in events if e.data.type == "response.output_text.delta"]
        h.same("".join(deltas), h.ANSWER)

    async def tools():
        run = await Runner.run(agent(tools=[get_weather]), h.ASK_WEATHER)
        h.same(run.final_output, h.ANSWER_WEATHER)
        run = Runner.run_streamed(agent(tools=[get_weather]), h.ASK_WEATHER)
        async for _ in run.stream_events():
            pass
        h.same(run.final_output, h.ANSWER_WEATHER)

    async def structured():
        run = await Runner.run(agent(output_type=City), h.ASK_CITY)
        h.same(run.final_output.model_dump(), h.CITY)

    async def images():
        look = [
            {"type": "input_text", "text": h.ASK_IMAGE},
            {"type": "input_image", "image_url": h.IMAGE, "detail": "auto"},
        ]
        run = await Runner.run(agent(), [{"role": "user", "content": look}])
        h.same(run.final_output, h.ANSWER_IMAGE)

    async def usage():
        counted = agent(model_settings=ModelSettings(include_usage=True))
        used = (await Runner.run(counted, h.ASK)).context_wrapper.usage
        h.same((used.input_tokens, used.output_tokens), h.USAGE)

    return {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "structured": structured,
        "images": images,
        "usage": usage,
        "error": h.refuses(lambda: Runner.run(agent(), h.ASK_REFUSED)),
    }


h.run(
    {
        "responses": checks(agents.OpenAIResponsesModel),
        "chat": checks(agents.OpenAIChatCompletionsModel),
    }
)
