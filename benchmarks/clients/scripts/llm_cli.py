"""llm: chat completions, from the command line."""

import json
from pathlib import Path

import harness as h
from programs import output_of

MODELS = Path.cwd() / "llm"
WEATHER = (
    f'def get_weather(city: str) -> str:\n    "Weather of a city."\n    return {h.WEATHER!r}\n'
)


def llm(prompt, *more, fails=False):
    home = {"LLM_USER_PATH": str(MODELS)}
    return output_of("llm", "-m", f"way-{h.MODEL}", *more, prompt, also=home, fails=fails)


def plain():
    h.holds(llm(h.ASK, "--no-stream"), h.ANSWER)


def stream():
    h.holds(llm(h.ASK), h.ANSWER)


def tools():
    h.holds(llm(h.ASK_WEATHER, "--functions", WEATHER), h.ANSWER_WEATHER)


def structured():
    said = llm(h.ASK_CITY, "--schema", "city, population int")
    h.same(json.loads(said), h.CITY)


def images():
    h.holds(llm(h.ASK_IMAGE, "-a", "picture.png"), h.ANSWER_IMAGE)


def usage():
    h.holds(llm(h.ASK, "--usage"), "21 input, 7 output")


def error():
    h.holds(llm(h.ASK_REFUSED, fails=True), h.REFUSAL)


if __name__ == "__main__":
    MODELS.mkdir()
    h.write_files()
    lines = [
        f"- model_id: way-{name}\n  model_name: {name}\n  api_base: {h.URL}/v1\n"
        "  api_key_name: way\n  supports_tools: true\n  supports_schema: true\n  vision: true\n"
        for name in h.COLUMNS.values()
    ]
    (MODELS / "extra-openai-models.yaml").write_text("".join(lines))
    (MODELS / "keys.json").write_text(json.dumps({"way": h.KEY}))
    checks = {
        "plain": plain,
        "stream": stream,
        "tools": tools,
        "structured": structured,
        "images": images,
        "usage": usage,
        "error": error,
    }
    h.run({"chat": checks})
