"""When the share of a canary grows, and when it ends: each stage is a test of its own.

While both routers decide turns by chance, every answer tells what either would have been worth, by
the probability that was logged. So the watch of a router that serves is the watch of a canary too.
"""

from typing import Any, NamedTuple

from gateway.learning.events import Event, What
from gateway.learning.evidence import no_answers
from gateway.learning.wording import explain_look, figures_of
from gateway.routing.canary import SALT, SHARE
from gateway.settings.learning import LearningSettings
from router_models.artifacts.router import Router
from router_models.errors import InvalidEvaluations
from router_models.evaluation.anytime import differences, look
from router_models.evaluation.off_policy import LoggedChoices


class Verdict(NamedTuple):
    """What becomes of a canary, and why."""

    what: What
    why: str
    figures: dict[str, Any]


def why_it_ends(
    stage: Event, new: Router | None, former: Router | None, settings: LearningSettings
) -> Verdict | None:
    """Say why a canary ends whatever its answers say; None where nothing speaks against it."""
    if settings.on_acceptance != "canary":
        return Verdict("rolled_back", "learning.on_acceptance is no longer `canary`", {})
    if new is None or former is None or former.version != stage.former_version:
        return Verdict("rolled_back", "it cannot be compared with what serves now", {})
    return None


def judge_canary(
    stage: Event,
    new: Router,
    former: Router,
    choices: LoggedChoices,
    settings: LearningSettings,
    willingness_to_pay_usd: float,
) -> Verdict | None:
    """Say what follows from the answers of a stage; None where it goes on.

    It ends at the first look that finds it worse, at a risk that all stages share. Its share grows
    when as many answers as are asked for have come of its own choices, where the other router would
    have chosen otherwise; counted by the odds of these, so that what they say has no part in it.

    Args:
        stage: The event that began it.
        new: The canary.
        former: What serves beside it.
        choices: Answers since the stage began.
        settings: How long a stage lasts, and what it may lose.
        willingness_to_pay_usd: USD per unit of quality.
    """
    if not len(choices.answered):
        return None
    try:
        compared = differences(new, former, choices, no_answers(choices), willingness_to_pay_usd)
    except InvalidEvaluations as error:
        return Verdict("rolled_back", f"it cannot be watched: {error}", {})
    found = look(compared, settings.tolerance)
    risk = settings.watch_risk / len(settings.canary_shares)
    share = float(stage.figures[SHARE])
    why, figures = explain_look(found, former.version, risk), dict(figures_of(found))
    if found.is_worse(risk):
        return Verdict("rolled_back", why, figures)
    is_seen = found.disagreements * share >= settings.canary_answers
    if not is_seen or found.utility < -settings.tolerance:
        return None
    larger = [one for one in settings.canary_shares if one > share]
    if not larger:
        return Verdict("activated", f"as a canary {why}", figures)
    begins = {SHARE: larger[0], SALT: stage.figures[SALT]}
    return Verdict("canary", f"{describe(larger[0])}: {why}", figures | begins)


def describe(share: float) -> str:
    """Say how much a canary decides."""
    return f"it decides {share:.3g} of the turns"
