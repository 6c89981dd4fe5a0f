"""`waypost judges`: how far the models that grade answers can be trusted."""

from dataclasses import asdict
from typing import Any

import click

from gateway.commands.options import json_option, print_json, settings_option
from gateway.evaluation_log.judged_answers import (
    JudgedAnswer,
    Prompted,
    measure_judges,
    model_means,
    read_judged,
)
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened
from router_models.evaluation.judges import LEAST_PAIRS, JudgeQuality


@click.command()
@settings_option
@json_option
def command(settings: GatewaySettings, *, as_json: bool) -> None:
    """Hold judges against trusted grades, those of verifiers and callers, of the same answers."""
    with opened(settings) as engine:
        answers = read_judged(engine)
    if as_json:
        judges = sorted(measure_judges(answers).items())
        print_json([_as_values(answers, judge, quality) for judge, quality in judges])
        return
    if not answers:
        click.echo("No answer was graded by a judge.")
    for judge, quality in sorted(measure_judges(answers).items()):
        for line in _lines(answers, judge, quality):
            click.echo(line)


def _as_values(
    answers: list[JudgedAnswer], judge: Prompted, quality: JudgeQuality
) -> dict[str, Any]:
    name, version = judge
    models = [
        {"model": model, "answers": count, "quality": None if mean is None else asdict(mean)}
        for model, (count, mean) in model_means(answers, judge).items()
    ]
    return {"judge": name, "prompt": version, **asdict(quality), "models": models}


def _lines(answers: list[JudgedAnswer], judge: Prompted, quality: JudgeQuality) -> list[str]:
    name, version = judge
    lines = [
        f"{name} ({version})",
        f"  {quality.pairs} answers have a trusted grade too; weight {quality.weight:.2f}"
        + (", it changed: older answers are left out" if quality.has_drifted else ""),
    ]
    if quality.pairs:
        lines.append(
            f"  bias {quality.bias:+.3f}, error {quality.rms_error:.3f} (root mean square), "
            f"correlation {quality.correlation:.2f}"
        )
    for model, (count, mean) in model_means(answers, judge).items():
        if mean is None:
            said = f"fewer than {LEAST_PAIRS} trusted grades"
        else:
            said = f"mean quality {mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
        lines.append(f"  {model:24} {count:6} answers, {said}")
    return lines
