"""opencode: ``opencode run``, by chat completions, Responses and Messages."""

import json
from pathlib import Path

import harness as h
from programs import output_of

BASH = '<<call bash {"command":"cat note.txt","description":"Read the note"}>>'
PACKAGES = {
    "chat": "@ai-sdk/openai-compatible",
    "responses": "@ai-sdk/openai",
    "messages": "@ai-sdk/anthropic",
}


def config():
    models = {name: {"name": name, "tool_call": True} for name in h.COLUMNS.values()}
    options = {"baseURL": f"{h.URL}/v1", "apiKey": h.KEY}
    providers = {
        wire: {"npm": package, "options": options, "models": models}
        for wire, package in PACKAGES.items()
    }
    return {
        "provider": providers,
        "permission": {"bash": "allow"},
        "autoupdate": False,
        "share": "disabled",
    }


def checks(wire):
    def opencode(prompt, *, fails=False):
        model = ("--model", f"{wire}/{h.MODEL}")
        quiet = {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}
        return output_of("opencode", "run", *model, prompt, also=quiet, fails=fails)

    def plain():
        h.holds(opencode(h.ASK), h.ANSWER)

    def tools():
        h.holds(opencode(f"Read the note. {BASH}"), "buy milk")

    def error():
        h.holds(opencode(h.ASK_REFUSED, fails=True), h.REFUSAL)

    return {"plain": plain, "tools": tools, "error": error}


if __name__ == "__main__":
    h.write_files()
    Path("opencode.json").write_text(json.dumps(config()))
    h.run({wire: checks(wire) for wire in PACKAGES})
