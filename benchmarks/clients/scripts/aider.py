"""aider: edits a file, by chat completions and Messages."""

from pathlib import Path

import harness as h
from programs import output_of

EDIT = "Write it down. <<say note.txt\n```\nOslo\n```\n>>"
QUIET = (
    "--no-git",
    "--yes-always",
    "--no-check-update",
    "--no-show-model-warnings",
    "--no-analytics",
    "--no-pretty",
)


def checks(provider, also):
    def aider(prompt, *more, fails=False):
        model = ("--model", f"{provider}/{h.MODEL}", "--edit-format", "whole")
        command = ("aider", *model, *QUIET, *more, "--message", prompt, "note.txt")
        return output_of(*command, also=also, fails=fails)

    def plain():
        aider(EDIT, "--no-stream")
        h.same(Path("note.txt").read_text(), "Oslo\n")

    def stream():
        aider(EDIT, "--stream")
        h.same(Path("note.txt").read_text(), "Oslo\n")

    def error():
        h.holds(aider(h.ASK_REFUSED, fails=True), h.REFUSAL)

    return {"plain": fresh(plain), "stream": fresh(stream), "error": fresh(error)}


def fresh(check):
    def begun():
        h.write_files()
        check()

    return begun


h.run(
    {
        "openai": checks("openai", {"OPENAI_API_BASE": f"{h.URL}/v1", "OPENAI_API_KEY": h.KEY}),
        "anthropic": checks("anthropic", {"ANTHROPIC_API_BASE": h.URL, "ANTHROPIC_API_KEY": h.KEY}),
    },
    # Its library asks OpenAI itself for names of OpenAI's models, whatever the provider.
    leaves_out={"anthropic": ("chat", "responses")},
)
