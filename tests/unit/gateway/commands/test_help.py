"""Read from the source: importing every command would load torch."""

import ast
from pathlib import Path

import gateway.commands

FOLDER = Path(gateway.commands.__path__[0])


def options(file: Path) -> dict[str, str]:
    """Return each option of a file's commands, and its help with `{...}` for what is filled in."""
    return {
        f"{file.relative_to(FOLDER)}: {ast.unparse(call.args[0])}": "".join(
            ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "help"
        )
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "click.option"
    }


def test_every_option_of_a_command_says_in_a_sentence_what_it_does() -> None:
    helps: dict[str, str] = {}
    for file in FOLDER.rglob("*.py"):
        helps |= options(file)

    assert len(helps) > 90
    silent = {name for name, text in helps.items() if not text.strip("'\"").endswith(".")}
    assert silent == set()
