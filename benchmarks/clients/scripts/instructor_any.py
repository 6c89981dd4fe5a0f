"""instructor: structured answers by tools, by a schema, by Responses and by Messages."""

import anthropic
import harness as h
import instructor
import openai
from pydantic import BaseModel


class City(BaseModel):
    """A city."""

    city: str
    population: int


def of_openai(mode):
    client = openai.OpenAI(base_url=f"{h.URL}/v1", api_key=h.KEY, max_retries=0)
    return instructor.from_openai(client, mode=mode)


def of_anthropic():
    return instructor.from_anthropic(
        anthropic.Anthropic(base_url=h.URL, api_key=h.KEY, max_retries=0)
    )


def checks(make, **more):
    def ask(text):
        asked = [{"role": "user", "content": text}]
        return make().chat.completions.create(
            model=h.MODEL, messages=asked, response_model=City, max_retries=1, **more
        )

    def structured():
        h.same(ask(h.ASK_CITY).model_dump(), h.CITY)

    return {"structured": structured, "error": h.refuses(lambda: ask(h.ASK_REFUSED))}


def streaming():
    pieces = of_openai(instructor.Mode.TOOLS).chat.completions.create_partial(
        model=h.MODEL, messages=[{"role": "user", "content": h.ASK_CITY}], response_model=City
    )
    h.same(list(pieces)[-1].model_dump(), h.CITY)


h.run(
    {
        "chat, tools": checks(lambda: of_openai(instructor.Mode.TOOLS)) | {"stream": streaming},
        "chat, schema": checks(lambda: of_openai(instructor.Mode.JSON_SCHEMA)),
        "responses": checks(lambda: of_openai(instructor.Mode.RESPONSES_TOOLS)),
        "messages": checks(of_anthropic, max_tokens=1000),
    }
)
