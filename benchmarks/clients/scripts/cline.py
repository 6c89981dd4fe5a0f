"""Cline's command line, by chat completions."""

import harness as h
from programs import output_of

RUN = '<<call run_commands {"commands":["cat note.txt"]}>>'


def cline(prompt, *, fails=False):
    given = ("--apikey", h.KEY, "--modelid", h.MODEL, "--baseurl", f"{h.URL}/v1")
    output_of("cline", "auth", "--provider", "openai-compatible", *given)
    return output_of("cline", "--json", "--retries", "1", prompt, fails=fails)


def plain():
    h.holds(cline(h.ASK), h.ANSWER)


def tools():
    h.holds(cline(f"Read the note. {RUN}"), "buy milk")


def error():
    h.holds(cline(h.ASK_REFUSED, fails=True), h.REFUSAL)


h.write_files()
h.run({"openai-compatible": {"plain": plain, "tools": tools, "error": error}})
