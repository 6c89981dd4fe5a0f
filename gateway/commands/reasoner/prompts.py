"""`waypost reasoner prompts`: what the log has for a reasoner to learn from."""

import json
from pathlib import Path

import click

from gateway.commands.options import settings_option
from gateway.evaluation_log.reasoning_prompts import private_prompts
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened


@click.command("prompts")
@settings_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, .jsonl; replaced if it exists.",
)
@click.option("--team", "teams", multiple=True, help="Only prompts of this team; may be repeated.")
def command(settings: GatewaySettings, out: Path, teams: tuple[str, ...]) -> None:
    """Write the distinct prompts whose answers a verifier graded, with their verifiers.

    Only of teams that opted in. Part of the lines, kept from training, serve to evaluate.
    """
    with opened(settings) as engine:
        found = private_prompts(engine, teams or None)
    lines = [json.dumps(table, ensure_ascii=False) + "\n" for _, table in found]
    try:
        # Readable by its owner alone: these are callers' own words.
        out.touch(mode=0o600)
        out.chmod(0o600)
        out.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{out}: cannot be written: {error.strerror}") from error
    click.echo(f"{len(found)} prompts in {out}")
    if not found:
        click.echo(
            "A team opts in by `waypost teams update TEAM --train-reasoner`; what it asks from "
            "then on and has verified by /v1/feedback is a prompt."
        )
