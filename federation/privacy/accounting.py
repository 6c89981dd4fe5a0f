"""What a site's noisy messages have cost it in privacy, over all rounds and sessions.

(epsilon, delta)-differential privacy where two logs are neighbours if one has a single query more,
with whatever was answered to it. Epsilon comes from Google's dp-accounting: Rényi differential
privacy, which composes any sequence of messages.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federation.errors import PlanRefused

if TYPE_CHECKING:
    from dp_accounting import DpEvent
    from dp_accounting.rdp import RdpAccountant

ORDERS = [*range(2, 65), 80, 96, 128, 192, 256, 512]
"""Whole Rényi orders: the library sums fractional ones by a series that need not converge."""

NOISE_BRACKET = (1e-2, 1e4)


class PrivacyBudgetSpent(PlanRefused):
    """A message would take the site beyond its epsilon; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Release:
    """One message with Gaussian noise in it.

    Attributes:
        noise_multiplier: Deviation of the noise over the most that one query can change.
        sampling_rate: Chance of a query to be in a step; 1 where all are.
        steps: Noisy steps that went into the message.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1

    def event(self) -> "DpEvent":
        """Say it in the accountant's words."""
        dp = _library()
        noisy = dp.GaussianDpEvent(self.noise_multiplier)
        step = dp.PoissonSampledDpEvent(self.sampling_rate, noisy)
        return dp.SelfComposedDpEvent(step, self.steps)


def epsilon_of(releases: Sequence[Release], delta: float) -> float:
    """Compose messages: the epsilon that all of them together cost at this delta."""
    accountant = _accountant()
    for release in releases:
        accountant.compose(release.event())
    return float(accountant.get_epsilon(delta))


def noise_multiplier_for(epsilon: float, delta: float, releases: Sequence[Release]) -> float:
    """Find the least noise that keeps `releases` together within `epsilon`.

    Args:
        releases: Sampling rate and steps of each; their own noise multipliers do not matter.

    Raises:
        ValueError: `epsilon` is not above 0 or `delta` not between 0 and 1.
    """
    if not epsilon > 0.0 or not 0.0 < delta < 1.0:
        raise ValueError(f"epsilon {epsilon} must be above 0 and delta {delta} between 0 and 1")

    dp = _library()

    def session(noise_multiplier: float) -> "DpEvent":
        noisy = (replace(release, noise_multiplier=noise_multiplier) for release in releases)
        return dp.ComposedDpEvent([release.event() for release in noisy])

    bracket = dp.ExplicitBracketInterval(*NOISE_BRACKET)
    return float(dp.calibrate_dp_mechanism(_accountant, session, epsilon, delta, bracket, tol=1e-3))


@dataclass(frozen=True, slots=True)
class PrivacyBudget:
    """A site's privacy budget over all sessions, and the releases that spent it.

    Attributes:
        epsilon: Of everything that ever leaves.
        delta: Well below one over the number of queries.
        spent: Every message so far.
    """

    epsilon: float
    delta: float
    spent: tuple[Release, ...] = ()

    def epsilon_spent(self) -> float:
        """Say what all messages so far cost together."""
        return epsilon_of(self.spent, self.delta) if self.spent else 0.0

    def spend(self, release: Release) -> "PrivacyBudget":
        """Charge one message, before it is made.

        Raises:
            PrivacyBudgetSpent: The message would go beyond `epsilon`.
        """
        spent = (*self.spent, release)
        epsilon = epsilon_of(spent, self.delta)
        if epsilon > self.epsilon:
            raise PrivacyBudgetSpent(
                f"this message would bring the site to epsilon {epsilon:.2f} at delta "
                f"{self.delta:g}; the limit is {self.epsilon:.2f}, of which it has spent "
                f"{self.epsilon_spent():.2f}"
            )
        return replace(self, spent=spent)


@dataclass(frozen=True, slots=True)
class PrivacyAccount:
    """A site's budget and the file that remembers what was spent, across sessions and restarts.

    Attributes:
        path: JSON; made at the first message. One process writes it.
    """

    path: Path
    epsilon: float
    delta: float

    def read(self) -> PrivacyBudget:
        """Return the budget with every message of the past."""
        if not self.path.exists():
            return PrivacyBudget(self.epsilon, self.delta)
        stored = json.loads(self.path.read_text(encoding="utf-8"))
        return PrivacyBudget(self.epsilon, self.delta, tuple(Release(**r) for r in stored))

    def spend(self, release: Release) -> None:
        """Charge one message and remember it on disk; call before the message is made.

        A message that is charged and then lost stays charged.

        Raises:
            PrivacyBudgetSpent: The message would go beyond the budget.
        """
        budget = self.read().spend(release)
        draft = self.path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump([asdict(spent) for spent in budget.spent], file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)


def _accountant() -> "RdpAccountant":
    neighbours = _library().NeighboringRelation.ADD_OR_REMOVE_ONE
    return import_module("dp_accounting.rdp").RdpAccountant(ORDERS, neighbours)


def _library() -> Any:
    """Import the accountant, which takes a second and 60 MB, only where a budget is kept.

    Every process of a federation imports this module.
    """
    return import_module("dp_accounting")
