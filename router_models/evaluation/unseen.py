"""What a log cannot tell of two routers, because what one would choose had no chance.

Exploration that goes by uncertainty does not try what looks hopeless, and a cap on its regret
forbids more. Where two routers choose alike, their difference is 0 whatever the log holds. Where
they do not, and the choice of one had no chance, its quality may be anything from 0 to 1, and an
interval has to hold both. To trust what routers expect there would be to trust what is in question:
they differ most where one of them is wrong. Manski, "Nonparametric Bounds on Treatment Effects"
(American Economic Review 1990).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from router_models.evaluation.design_variance import Shares, weighed
from router_models.evaluation.off_policy import LoggedChoices
from router_models.evaluation.outcome_model import OutcomeModel


class Unseen(NamedTuple):
    """What an estimate of a difference owes to choices that had no chance.

    Attributes:
        below: How far below the estimate the truth may lie for them; 0 or less.
        above: How far above; 0 or more.
        share: Of the answers, that such a choice has a part in.
    """

    below: float = 0.0
    above: float = 0.0
    share: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """How logged answers came about, and what routers would have chosen instead.

    Attributes:
        choices: What was drawn.
        outcomes: What is to be expected; the estimate takes it for granted where nothing was seen.
        shares: By how much the figures of each model count, by router.
    """

    choices: LoggedChoices
    outcomes: OutcomeModel
    shares: Mapping[str, Shares]

    def standard_error(self, new: str, former: str) -> float:
        """Return the standard error of the difference between two routers."""
        shares = self.shares[new].minus(self.shares[former])
        found = weighed(self.outcomes, shares, self.choices)
        _, query = np.unique(self.choices.query, return_inverse=True)
        return found.standard_error(query, self.outcomes.persistence)

    def unseen(self, new: str, former: str) -> Unseen:
        """Say what the log cannot tell of the difference between two routers."""
        shares = self.shares[new].minus(self.shares[former])
        hidden = self.choices.propensity <= 0
        counts = hidden & ((shares.quality != 0.0) | (shares.cost_usd != 0.0))
        assumed = self.outcomes.quality.modelled
        worst, best = -shares.quality * assumed, shares.quality * (1.0 - assumed)
        below, above = (
            float(np.where(hidden, bound(worst, best), 0.0).sum(axis=1).mean())
            for bound in (np.minimum, np.maximum)
        )
        return Unseen(below, above, float(counts.any(axis=1).mean()))
