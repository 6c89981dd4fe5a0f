"""What is learned about providers' prompt caches: how long they last, and who comes back to them.

No clock and no I/O: times are handed in. Old observations fade, since providers change.
"""

from bisect import bisect_left
from math import exp
from typing import Final

LEAST_TOKENS: Final = 1_024
"""Shorter prompts are not cached, by OpenAI and by Anthropic's larger models."""
LONGEST_S: Final = 3_600.0
"""The longest that a cache is taken to last."""
LIFETIME_S: Final = 300.0
"""Mean lifetime expected before anything was seen: providers speak of five to ten minutes."""
PRIOR_CALLS: Final = 4.0
"""As many observations count what was expected before."""
_AGES_S: Final = (30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 2_400.0, LONGEST_S)
_GAPS_S: Final = (15.0, 42.0, 85.0, 190.0, 424.0, 849.0, 1_697.0, 2_939.0)
"""In the middle of each of these buckets, by logarithm."""
_KEPT: Final = 0.99
"""Of the weight of what was seen, at each new observation: the last 100 count."""
_RETURN: Final = 0.5
"""Chance of a further call, expected before anything was seen."""
_KEPT_RETURNS: Final = 0.998
_N_LENGTHS: Final = 8


class Survival:
    """How much of a prompt one provider still finds in its cache after some time.

    Shares are averaged in buckets of age, each with `PRIOR_CALLS` observations of an exponential
    lifetime of `LIFETIME_S` added: a Beta prior, where a share is a fraction of a success. Nothing
    is assumed of the form, since some caches end at a fixed age and others when room is needed.
    """

    __slots__ = ("_n", "_sums")

    def __init__(self) -> None:
        self._n = [0.0] * len(_AGES_S)
        self._sums = [0.0] * len(_AGES_S)

    def share(self, age_s: float) -> float:
        """Return the share, 0 to 1, that is expected to be left at an age."""
        place = bisect_left(_AGES_S, age_s)
        if place == len(_AGES_S):
            return 0.0
        before = PRIOR_CALLS * exp(-age_s / LIFETIME_S)
        return (before + self._sums[place]) / (PRIOR_CALLS + self._n[place])

    def learn(self, age_s: float, share: float) -> None:
        """Take in the share, 0 to 1, that was found at an age."""
        place = bisect_left(_AGES_S, age_s)
        if place < len(_AGES_S):
            self._n[place] = _KEPT * self._n[place] + 1.0
            self._sums[place] = _KEPT * self._sums[place] + share


class Returns:
    """How likely a conversation goes on, by the number of its calls, and after what time.

    A model that kept a conversation and one that it just came to are counted apart: to change the
    model for one question and back is common. Numbers of calls are taken together that have equally
    many bits. Times are counted in the same buckets as the ages of caches.
    """

    __slots__ = ("_gaps", "_n", "_returned")

    def __init__(self) -> None:
        self._n = [0.0] * (2 * _N_LENGTHS)
        self._returned = [0.0] * (2 * _N_LENGTHS)
        self._gaps = [PRIOR_CALLS / len(_AGES_S)] * len(_AGES_S)

    def chance(self, calls: int, *, is_kept: bool) -> float:
        """Return the chance that a conversation of so many calls has another on the same model.

        Args:
            is_kept: The model had the call before as well.
        """
        place = _place(calls, is_kept)
        returned = PRIOR_CALLS * _RETURN + self._returned[place]
        return returned / (PRIOR_CALLS + self._n[place])

    def left(self, survival: Survival, age_s: float = 0.0) -> float:
        """Return the share of what was cached so long ago that is expected to be left at it."""
        return sum(
            [n * survival.share(age_s + gap) for n, gap in zip(self._gaps, _GAPS_S, strict=True)]
        ) / sum(self._gaps)

    def called(self, calls: int, *, is_kept: bool) -> None:
        """Take in a call, the last so far of a conversation of so many."""
        place = _place(calls, is_kept)
        self._n[place] = _KEPT_RETURNS * self._n[place] + 1.0
        self._returned[place] *= _KEPT_RETURNS

    def returned(self, calls: int, gap_s: float, *, is_kept: bool, is_same_model: bool) -> None:
        """Take in that another call followed one that was taken in with the same arguments."""
        place = bisect_left(_AGES_S, gap_s)
        if place == len(_AGES_S):
            return
        self._returned[_place(calls, is_kept)] += is_same_model
        self._gaps = [_KEPT_RETURNS * n for n in self._gaps]
        self._gaps[place] += 1.0


def _place(calls: int, is_kept: bool) -> int:  # noqa: FBT001
    return 2 * min(calls.bit_length(), _N_LENGTHS - 1) + is_kept
