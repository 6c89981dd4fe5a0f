"""Every command line and every piece of code in the documentation works as it stands."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pytest
import yaml

import dev
from gateway.cli import cli
from gateway.settings.config import GatewaySettings
from router_models.verifiers.verifiers import parse_verifier
from tests.fakes.distributions import EXTRAS
from tests.fakes.pages import ROOT, Block, blocks, command_lines, inline_code

CHART = ROOT / "helm" / "waypost"
OTHER_YAML = {"scrape_configs", "rule_files"}  # Prometheus'
LANGUAGES = {"sh", "bash", "python", "toml", "yaml", "json", "jsonl", "sql", "text"}
PLACEHOLDER = re.compile(r"[A-Z_]+|\.\.\.|<.*>|\$.*")


def broken(check: Callable[[Block], object], *languages: str) -> list[str]:
    """Run `check` on each block and return where it failed, and why."""
    found = blocks(*languages)
    assert found
    return [f"{block.place}: {why}" for block in found for why in _failures(check, block)]


def _failures(check: Callable[[Block], object], block: Block) -> Iterator[str]:
    try:
        check(block)
    except (ValueError, SyntaxError, AssertionError, yaml.YAMLError) as error:
        yield str(error)


def test_every_block_says_its_language():
    assert [block.place for block in blocks() if block.language not in LANGUAGES] == []


def test_settings_are_those_of_the_gateway():
    def check(block: Block) -> None:
        table = tomllib.loads(block.text)
        hosts = table.setdefault("providers", {})
        models = table.get("models", {}).values()
        deployments = (one for model in models for one in model.get("deployments", [model]))
        for each in (*deployments, *table.get("passthrough", {}).values()):
            # A fragment may leave out the provider that another one shows.
            hosts.setdefault(each["provider"], {"base_url": "https://provider.example/v1"})
        GatewaySettings.model_validate({"data_dir": "data", **table})

    assert broken(check, "toml") == []


def over(defaults: Any, values: Any) -> Any:
    """Lay values over the chart's own, as helm does."""
    if not (isinstance(defaults, dict) and isinstance(values, dict)):
        return values
    return defaults | {name: over(defaults.get(name), value) for name, value in values.items()}


def test_yaml_is_values_of_the_chart_or_for_prometheus():
    chart = jsonschema_rs.validator_for(json.loads((CHART / "values.schema.json").read_text()))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    def check(block: Block) -> None:
        values = yaml.safe_load(block.text)
        if not values.keys() <= OTHER_YAML:
            chart.validate(over(defaults, values))

    assert broken(check, "yaml") == []


def test_json_is_json_and_its_verifiers_are_known():
    def verifiers(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, list):
            for each in value:
                yield from verifiers(each)
        elif isinstance(value, dict):
            if "verifier" in value:
                yield value["verifier"]
            yield from verifiers(list(value.values()))

    def check(block: Block) -> None:
        lines = block.text.splitlines() if block.language == "jsonl" else [block.text]
        for table in verifiers([json.loads(line) for line in lines]):
            parse_verifier(table)

    assert broken(check, "json", "jsonl") == []


def test_python_compiles():
    assert broken(lambda block: compile(block.text, block.place, "exec"), "python") == []


def command_at(words: list[str]) -> tuple[click.Context, list[str]]:
    """Walk from `waypost` to the command that these words name; return what follows it."""
    context = click.Context(cli, info_name="waypost")
    while words and isinstance(context.command, click.Group):
        if words[0].startswith("-") or PLACEHOLDER.fullmatch(words[0]):
            break
        command = context.command.get_command(context, words[0])
        if command is None:
            raise ValueError(f"`{context.command_path}` has no command {words[0]}")
        context = click.Context(command, info_name=words[0], parent=context)
        words = words[1:]
    return context, words


def mistake(words: list[str]) -> str | None:
    """Say what is wrong with a whole command line of `waypost`, without running it."""
    try:
        context, arguments = command_at(words)
        if isinstance(context.command, click.Group):
            return f"`{context.command_path}` needs a subcommand"
        values, left, _ = context.command.make_parser(context).parse_args(list(arguments))
    except (ValueError, click.ClickException) as error:
        return str(error)
    if left:
        return f"{context.command_path}: what is {left}?"
    for parameter in context.command.params:
        given = values.get(parameter.name or "")
        is_missing = given is None or given in ((), "") or "UNSET" in repr(given)
        if parameter.required and is_missing and not parameter.envvar:
            return f"{context.command_path}: {parameter.name} is missing"
        if not is_missing and (why := _refusal(parameter, given, context)):
            return why
    return None


def _refusal(parameter: click.Parameter, given: Any, context: click.Context) -> str | None:
    """Say why a value is none of this parameter's; files need not exist."""
    texts = given if isinstance(given, list | tuple) else [given]
    if isinstance(parameter.type, click.Path | click.File | click.Tuple):
        return None
    try:
        for text in texts:
            if isinstance(text, str) and not PLACEHOLDER.fullmatch(text):
                parameter.type.convert(text, parameter, context)
    except click.ClickException as error:
        return f"{context.command_path}: {error}"
    return None


def test_every_command_line_of_waypost_is_accepted():
    lines = [
        (place, words[1:]) for place, words in command_lines() if Path(words[0]).name == "waypost"
    ]

    assert len(lines) > 50
    assert [f"{place}: {why}" for place, words in lines if (why := mistake(words))] == []


@pytest.mark.parametrize(
    "line",
    [
        "budgets creat --team research",
        "budgets create --team research --dollars 5",
        "keys revoke",
        "keys revoke one two",
        "budgets create --team research --usd much",
        "budgets",
    ],
)
def test_a_wrong_command_line_is_found(line):
    assert mistake(line.split()) is not None


def test_every_command_of_waypost_that_a_sentence_names_exists():
    wrong = []
    for place, code in inline_code():
        if not re.match(r"waypost [a-z]", code):
            continue
        words = re.sub(r"[\[\]]", "", code).split()[1:]
        try:
            context, rest = command_at(words)
        except (ValueError, click.ClickException) as error:
            wrong.append(f"{place}: {error}")
            continue
        known = {
            name for each in context.command.params for name in (*each.opts, *each.secondary_opts)
        }
        wrong += [
            f"{place}: {code}: no {word}"
            for word in rest
            if word.startswith("--") and word.split("=")[0] not in known | {"--help", "--version"}
        ]

    assert wrong == []


def options_of(program: str) -> str | None:
    """Return the source of a program of this repository, which names its options; None without."""
    path = ROOT / (program if program.endswith(".py") else program.replace(".", "/") + ".py")
    return path.read_text(encoding="utf-8") if path.exists() else None


def programs() -> Iterator[tuple[str, list[str]]]:
    """Yield every command line that runs Python of this repository, without the interpreter."""
    everywhere = [*command_lines(), *((place, code.split()) for place, code in inline_code())]
    for place, words in everywhere:
        if re.fullmatch(r"(.*/)?python3?", words[0]) and len(words) > 1:
            named = words[2:] if words[1] == "-m" else words[1:]
            if named[0].startswith(("benchmarks", "docs", "dev.py")):
                yield place, named


def test_every_program_of_this_repository_exists_with_its_options():
    wrong = []
    for place, (program, *arguments) in programs():
        source = options_of(program)
        if source is None:
            wrong.append(f"{place}: no {program}")
            continue
        flags = [re.sub(r"[\[\]`]", "", word) for word in arguments]
        wrong += [
            f"{place}: {program} has no {flag}"
            for flag in flags
            if flag.startswith("--") and f'"{flag}"' not in source
        ]
        if program == "dev.py" and arguments and f"def {arguments[0]}(" not in source:
            wrong.append(f"{place}: dev.py has no command {arguments[0]}")

    assert Path(dev.__file__) == ROOT / "dev.py"
    assert wrong == []


def test_every_extra_that_a_page_installs_exists():
    texts = [" ".join(words) for _, words in command_lines()] + [code for _, code in inline_code()]
    named = {
        extra
        for text in texts
        for group in re.findall(r"(?:waypost|\.)\[([a-z,-]+)\]", text)
        for extra in group.split(",")
    }

    assert named
    assert named - EXTRAS.keys() == set()
