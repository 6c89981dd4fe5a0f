"""How far a judge's scores can be trusted, measured on answers that trusted graders scored too.

Trusted grades are few and scores of judges are many and biased. Together they say more than either:
prediction-powered inference (Angelopoulos et al., Science 382, 2023, arXiv 2301.09633), here with
the tuned weight of PPI++ (Angelopoulos, Duchi, Zrnic, arXiv 2311.01453), estimates a mean without
the judge's bias. It holds where trusted grades fall on answers by chance, given the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Figures = Sequence[float] | Float64

PRIOR_PAIRS: Final = 20.0
"""A judge is taken for what it was before as if so many pairs had shown it."""
PRIOR_WEIGHT: Final = 0.5
WINDOW: Final = 200
"""The latest pairs that count."""
RECENT: Final = 50
"""Of these, the ones that are compared with the others to find a change."""
DRIFT_Z: Final = 3.5
"""Standard errors between the mean errors of both: one false alarm in 2,000 looks."""
LEAST_PAIRS: Final = 5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with the interval that holds it with 95 % probability.

    Attributes:
        judge_share: How much the judge counts, 0 (not at all) to 1 (as the trusted grades do).
    """

    mean: float
    stderr: float
    low: float
    high: float
    judge_share: float


@dataclass(frozen=True, slots=True)
class Correction:
    """What a trusted grader would have said on average, by a judge's score."""

    intercept: float = 0.0
    slope: float = 1.0

    def __call__(self, score: float) -> float:
        """Correct one score; the result is from 0 to 1."""
        return min(max(self.intercept + self.slope * score, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class JudgeQuality:
    """How a judge's scores compare with trusted grades of the same answers.

    Attributes:
        pairs: Answers with both that count: the latest ones, and after a change those since.
        bias: Mean of judge minus trusted.
        rms_error: Root of the mean squared difference.
        correlation: 0 where either never varies.
        has_drifted: Its errors changed, so older pairs are left out.
        correction: Fitted to these pairs; near the identity where they are few.
        weight: How much a score of it says, 0 to 1: the variance of trusted grades that it
            explains.
    """

    pairs: int
    bias: float
    rms_error: float
    correlation: float
    has_drifted: bool
    correction: Correction
    weight: float


def measure_judge(judged: Figures, trusted: Figures) -> JudgeQuality:
    """Compare a judge with trusted grades of the same answers, the latest ones last."""
    scores = np.asarray(judged, np.float64)[-WINDOW:]
    truth = np.asarray(trusted, np.float64)[-WINDOW:]
    has_drifted = drifts(scores - truth)
    if has_drifted:
        scores, truth = scores[-RECENT:], truth[-RECENT:]
    n_pairs, errors = len(scores), scores - truth
    correlation = _correlation(scores, truth)
    explained = max(correlation, 0.0) ** 2
    # A judge that changed is not given the benefit of the doubt.
    before = 0.0 if has_drifted else PRIOR_WEIGHT
    weight = (n_pairs * explained + PRIOR_PAIRS * before) / (n_pairs + PRIOR_PAIRS)
    return JudgeQuality(
        pairs=n_pairs,
        bias=float(errors.mean()) if n_pairs else 0.0,
        rms_error=sqrt(float((errors**2).mean())) if n_pairs else 0.0,
        correlation=correlation,
        has_drifted=has_drifted,
        correction=fit_correction(scores, truth),
        weight=weight,
    )


def drifts(errors: Float64) -> bool:
    """Whether the latest errors of a judge have another mean than those before."""
    late, early = errors[-RECENT:], errors[:-RECENT]
    if len(late) < RECENT or len(early) < RECENT:
        return False
    # A judge without any error so far still has a grain of its scale.
    variance = late.var(ddof=1) / len(late) + early.var(ddof=1) / len(early) + 1e-6
    return bool(abs(late.mean() - early.mean()) > DRIFT_Z * sqrt(variance))


def fit_correction(judged: Float64, trusted: Float64) -> Correction:
    """Fit a line from a judge's scores to trusted ones, drawn towards the identity.

    Ridge regression of the difference on the score, with `PRIOR_PAIRS` pairs on the identity that
    are spread over 0 to 1 evenly.
    """
    spread = np.linspace(0.0, 1.0, round(PRIOR_PAIRS))
    scores = np.concatenate([judged, spread])
    design = np.stack([np.ones_like(scores), scores], axis=1)
    errors = np.concatenate([trusted - judged, np.zeros_like(spread)])
    (intercept, tilt), *_ = np.linalg.lstsq(design, errors, rcond=None)
    return Correction(float(intercept), 1.0 + float(tilt))


def estimate_mean(trusted: Figures, judged: Figures, judged_alone: Figures) -> Estimate | None:
    """Estimate the mean of trusted grades over all answers, judged ones without any included.

    Args:
        trusted: Grades of some answers.
        judged: The judge's scores of the same answers.
        judged_alone: Its scores of the others.

    Returns:
        None for fewer than `LEAST_PAIRS` pairs.
    """
    truth, scores = np.asarray(trusted, np.float64), np.asarray(judged, np.float64)
    alone = np.asarray(judged_alone, np.float64)
    n_pairs, n_alone = len(truth), len(alone)
    if n_pairs < LEAST_PAIRS:
        return None
    share = _judge_share(truth, scores, alone)
    mean, variance, lost = float(truth.mean()), _variance(truth, 1) / n_pairs, 1
    if share:
        mean += share * float(alone.mean() - scores.mean())
        # The share was tuned on the same pairs: one degree of freedom more.
        residual = _variance(truth - share * scores, 2)
        variance = residual / n_pairs + share**2 * _variance(alone, 1) / n_alone
        lost = 2
    stderr = sqrt(variance)
    reach = student_t(n_pairs - lost) * stderr
    return Estimate(mean, stderr, max(mean - reach, 0.0), min(mean + reach, 1.0), share)


def student_t(freedom: int, level: float = 0.975) -> float:
    """Return a quantile of Student's t (Abramowitz and Stegun 26.7.5), within 1 % from 3 up."""
    z = NormalDist().inv_cdf(level)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def _judge_share(truth: Float64, scores: Float64, alone: Float64) -> float:
    """Return the share that makes the estimate's variance least (PPI++, section 6.1)."""
    if len(alone) < 2:
        return 0.0
    variance = _variance(np.concatenate([scores, alone]), 1)
    if variance <= 0.0:
        return 0.0
    covariance = float(np.cov(truth, scores)[0, 1])
    share = covariance / ((1.0 + len(truth) / len(alone)) * variance)
    return min(max(share, 0.0), 1.0)


def _variance(values: Float64, lost: int) -> float:
    return float(values.var(ddof=lost)) if len(values) > lost else 0.0


def _correlation(first: Float64, second: Float64) -> float:
    if len(first) < 2 or first.std() <= 0.0 or second.std() <= 0.0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
