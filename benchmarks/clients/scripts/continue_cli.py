"""Continue's command line, by chat completions and Messages: ``cn --print``."""

from pathlib import Path

import harness as h
from programs import output_of

BASH = '<<call Bash {"command":"cat note.txt"}>>'
CONFIG = """
name: waypost
version: 0.0.1
schema: v1
models:
  - name: {model}
    provider: {provider}
    model: {model}
    apiBase: {url}/v1/
    apiKey: {key}
    capabilities: [tool_use, image_input]
"""


def checks(provider):
    def cn(prompt, *more, fails=False):
        file = Path(f"{provider}-{h.MODEL}.yaml")
        file.write_text(CONFIG.format(model=h.MODEL, provider=provider, url=h.URL, key=h.KEY))
        command = ("cn", "--print", prompt, "--config", str(file), *more)
        return output_of(*command, fails=fails)

    def plain():
        h.holds(cn(h.ASK), h.ANSWER)

    def tools():
        h.holds(cn(f"Read the note. {BASH}", "--allow", "Bash"), "buy milk")

    def error():
        h.holds(cn(h.ASK_REFUSED, fails=True), h.REFUSAL)

    return {"plain": plain, "tools": tools, "error": error}


h.write_files()
h.run({"openai": checks("openai"), "anthropic": checks("anthropic")})
