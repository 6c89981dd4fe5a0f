"""Codex, by Responses: ``codex exec``."""

from pathlib import Path

import harness as h
from programs import output_of

HOME = Path.cwd() / "codex"
CONFIG = f"""
model_provider = "waypost"
web_search = "disabled"
[model_providers.waypost]
name = "Waypost"
base_url = "{h.URL}/v1"
env_key = "WAYPOST_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
READ = (
    '<<call exec_command {"cmd":"cat note.txt"}>>'
    '<<call shell {"command":["cat","note.txt"]}>>'
    '<<call shell_command {"command":"cat note.txt"}>>'
)


def codex(prompt: str, *more: str, fails: bool = False) -> str:
    """Ask once."""
    options = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    home = {"CODEX_HOME": str(HOME)}
    command = ("codex", "exec", *options, "--model", h.MODEL, *more, prompt)
    return output_of(*command, also=home, fails=fails)


def plain():
    h.holds(codex(h.ASK), h.ANSWER)


def tools():
    h.holds(codex(f"Read the note. {READ}"), "buy milk")


def images():
    h.holds(codex(h.ASK_IMAGE, "--image=picture.png", "--"), h.ANSWER_IMAGE)


def usage():
    h.holds(codex(h.ASK, "--json"), '"output_tokens":7')


def error():
    h.holds(codex(h.ASK_REFUSED, fails=True), h.REFUSAL)


if __name__ == "__main__":
    HOME.mkdir()
    (HOME / "config.toml").write_text(CONFIG)
    h.write_files()
    checks = {"plain": plain, "tools": tools, "images": images, "usage": usage, "error": error}
    h.run({"exec": checks})
