"""Cline's command line, by chat completions and Messages."""

import harness as h
from programs import output_of

RUN = '<<call run_commands {"commands":["cat note.txt"]}>>'


def checks(provider, path):
    def cline(prompt, *, fails=False):
        given = ("--apikey", h.KEY, "--modelid", h.MODEL, "--baseurl", h.URL + path)
        output_of("cline", "auth", "--provider", provider, *given)
        return output_of("cline", "--json", "--retries", "1", prompt, fails=fails)

    def plain():
        h.holds(cline(h.ASK), h.ANSWER)

    def tools():
        h.holds(cline(f"Read the note. {RUN}"), "buy milk")

    def error():
        h.holds(cline(h.ASK_REFUSED, fails=True), h.REFUSAL)

    return {"plain": plain, "tools": tools, "error": error}


h.write_files()
h.run(
    {
        "openai-compatible": checks("openai-compatible", "/v1"),
        "anthropic": checks("anthropic", "/v1"),
    }
)
