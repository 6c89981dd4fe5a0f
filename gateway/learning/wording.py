"""What a step says of itself: a sentence for operators, figures for machines."""

from collections.abc import Mapping
from typing import Any

from gateway.learning.training import TrainedRouter
from router_models.evaluation.anytime import Look


def explain_training(trained: TrainedRouter, half_lives: Mapping[str, int]) -> str:
    """Say what a router learned from, and what routing by it gains on rows held out.

    Args:
        trained: The router.
        half_lives: After how many answers of a model one counted half, for those that changed.
    """
    training, rows = trained.training, trained.provenance
    low, high = training["validation_gain_interval"]
    fading = "".join(
        f"; {model} does otherwise lately, so its answers count half after {answers} others"
        for model, answers in half_lives.items()
    )
    return (
        f"{training['kind']} learned from {rows['train_evaluations']} graded answers of "
        f"{rows['models']} models; gain over the best single model on rows that it had not seen: "
        f"{training['validation_gain']:+.4f} [{low:+.4f}, {high:+.4f}]{fading}"
    )


def explain_look(found: Look, former: str, risk: float) -> str:
    """Say what the watch knows of the router that serves."""
    verb = "does worse than" if found.is_worse(risk) else "is not known to be worse than"
    return (
        f"it {verb} {former} on {found.answers} answers since it serves, of which "
        f"{found.disagreements} count where the two differ: utility {found.utility:+.4f}, quality "
        f"{found.quality:+.4f}, cost {1000 * found.cost_usd:+.4g} USD per 1,000 turns; "
        f"p {found.p_value:.2g} at every look together"
    )


def figures_of(found: Look) -> Mapping[str, Any]:
    """Return the figures of a look."""
    return {
        "answers": found.answers,
        "disagreements": found.disagreements,
        "utility_difference": found.utility,
        "quality_difference": found.quality,
        "cost_difference_usd": found.cost_usd,
        "p_value": found.p_value,
    }
