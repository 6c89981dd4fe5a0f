"""Claude Code, by Messages: ``claude --print``."""

import json

import harness as h
from programs import output_of

BASH = '<<call Bash {"command":"cat note.txt","description":"Read the note"}>>'


def claude(prompt: str, *more: str, fails: bool = False) -> str:
    """Ask once."""
    also = {
        "ANTHROPIC_BASE_URL": h.URL,
        "ANTHROPIC_AUTH_TOKEN": h.KEY,
        "ANTHROPIC_MODEL": h.MODEL,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": h.MODEL,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    return output_of("claude", "--print", prompt, *more, also=also, fails=fails)


def plain():
    h.holds(claude(h.ASK), h.ANSWER)


def stream():
    options = ("--output-format", "stream-json", "--include-partial-messages", "--verbose")
    lines = [json.loads(line) for line in claude(h.ASK, *options).splitlines() if line[:1] == "{"]
    events = [line["event"] for line in lines if line["type"] == "stream_event"]
    texts = [e["delta"]["text"] for e in events if e.get("delta", {}).get("type") == "text_delta"]
    h.same("".join(texts), h.ANSWER)


def tools():
    said = claude(f"Read the note. {BASH}", "--allowedTools", "Bash")
    h.holds(said, "buy milk")


def usage():
    said = json.loads(claude(h.ASK, "--output-format", "json"))
    h.same(said["usage"]["output_tokens"], h.USAGE[1])


def error():
    h.holds(claude(h.ASK_REFUSED, fails=True), h.REFUSAL)


if __name__ == "__main__":
    h.write_files()
    checks = {"plain": plain, "stream": stream, "tools": tools, "usage": usage, "error": error}
    h.run({"print": checks})
