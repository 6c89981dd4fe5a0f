"""Of a large pool, the models that a turn considers: those with most to hope for.

What a turn does for each candidate, in Python and in the log, would grow with the pool. So all
models are compared in a few operations on arrays, and the rest is done for the best of them. One
that is left out has the propensity 0, like one that exploration does not try.
"""

import logging
from collections.abc import Callable, Sequence
from math import inf, isnan
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.routing.candidates import CandidatePool
from gateway.routing.capabilities import OK, Verdict
from gateway.routing.expected_cost import asked_limit
from gateway.routing.plan import Scores, with_caches
from gateway.routing.predictions import Asked, predicted
from gateway.routing.prior import fill_in, filled
from router_models.artifacts.router import Router
from router_models.types import TOKENS_PER_MTOK, USD, Float32, Float64

MOST_CONSIDERED: Final = 32
UNKNOWN: Final = -1e9
Prior = Callable[[], Router | None]
"""Makes the prior's router, where one is needed: that may take a fit."""

_log = logging.getLogger(__name__)


class WholeScores(NamedTuple):
    """What is predicted of all models of a large pool; not a number where nothing is known.

    Attributes:
        familiarity: How close the query is to what the router was trained on, 0 to 1.
        completion_tokens: None where the router predicts USD at once.
    """

    quality: Float64
    cost_usd: Float64
    familiarity: float
    stderr: Float64 | None
    completion_tokens: Float64 | None


def shortlist(
    router: Router | None,
    prior: Prior,
    pool: CandidatePool,
    verdicts: tuple[Verdict, ...],
    asked: Asked,
    willingness_to_pay_usd: float,
    *,
    with_stderr: bool,
) -> tuple[CandidatePool, tuple[Verdict, ...], Scores | None]:
    """Return the `MOST_CONSIDERED` models that can answer and that most is hoped of, in order.

    What is hoped is the predicted utility, and its standard error where exploration reads that: so
    it has the models that it would try. What is predicted of them comes along. All models stay, and
    nothing is predicted, where they are no more than that or the router fails.
    """
    if router is None or len(pool.models) <= MOST_CONSIDERED:
        return pool, verdicts, None
    try:
        whole = whole_scores(router, prior, pool, asked, with_stderr=with_stderr)
    except Exception:  # noqa: BLE001
        # It will fail again when it is asked for its predictions, and the default model answers.
        _log.debug("router %s fails", router.version, exc_info=True)
        return pool, verdicts, None
    hopes = whole.quality - whole.cost_usd / willingness_to_pay_usd
    if whole.stderr is not None:
        hopes += np.nan_to_num(whole.stderr)
    # What is not predicted comes after all that is, and what cannot answer last.
    hopes[np.isnan(hopes)] = UNKNOWN
    if verdicts.count(OK) < len(verdicts):
        hopes[[not verdict.is_eligible for verdict in verdicts]] = -inf
    places = sorted(np.argpartition(hopes, -MOST_CONSIDERED)[-MOST_CONSIDERED:].tolist())
    considered = tuple([verdicts[place] for place in places])
    return pool.part(places), considered, _at(places, whole)


def whole_scores(
    router: Router, prior: Prior, pool: CandidatePool, asked: Asked, *, with_stderr: bool
) -> WholeScores:
    """Predict all models of a pool; those that `router` does not know are predicted by `prior`."""
    own = _scores(router, pool, asked, with_stderr=with_stderr)
    if not np.isnan(own.quality).any() or (other := prior()) is None:
        return own
    guess = _scores(other, pool, asked, with_stderr=with_stderr)
    return WholeScores(
        filled(own.quality, guess.quality),
        np.where(np.isnan(own.cost_usd), guess.cost_usd, own.cost_usd),
        own.familiarity,
        _first(own.stderr, guess.stderr),
        _first(own.completion_tokens, guess.completion_tokens),
    )


def scored(
    router: Router, prior: Prior, pool: CandidatePool, asked: Asked, *, with_stderr: bool
) -> Scores:
    """Predict the models of a pool; those that `router` does not know are predicted by `prior`.

    Without a prior a router that knows few of the models would get nearly all turns for these.
    """
    if pool.whole is not None:
        whole = whole_scores(router, prior, pool.whole, asked, with_stderr=with_stderr)
        return with_caches(_at(pool.places, whole), asked.caches)
    scores = predicted(router, pool, asked, with_stderr=with_stderr)
    if None not in scores.quality or (other := prior()) is None:
        return scores
    return fill_in(scores, predicted(other, pool, asked, with_stderr=with_stderr))


def _at(places: Sequence[int], whole: WholeScores) -> Scores:
    stderr, tokens = whole.stderr, whole.completion_tokens
    return Scores(
        _known(whole.quality[places]),
        _known(whole.cost_usd[places]),
        whole.familiarity,
        None if stderr is None else _known(stderr[places]),
        None if tokens is None else _known(tokens[places]),
    )


def _scores(router: Router, pool: CandidatePool, asked: Asked, *, with_stderr: bool) -> WholeScores:
    found = router.figures(asked.embedding, asked.team_id)
    columns = router.columns(pool.names)
    quality, cost_usd = _in_order(found.quality, columns), _in_order(found.cost_usd, columns)
    stderr, tokens = None, None
    if with_stderr:
        row = asked.embedding[np.newaxis, : router.manifest.dimension]
        of_all = router.estimator.quality_stderr(row)
        stderr = None if of_all is None else _in_order(of_all[0], columns)
    if router.unit != USD:
        tokens = np.minimum(cost_usd * TOKENS_PER_MTOK, asked_limit(asked.request.body))
        cost_usd = pool.prices.costs_usd(asked.request.prompt_tokens, tokens)
    return WholeScores(quality, cost_usd, found.familiarity, stderr, tokens)


def _in_order(figures: Float32, columns: NDArray[np.intp]) -> Float64:
    """Take columns; -1 is one that is not there."""
    found = figures[columns].astype(np.float64)
    found[columns < 0] = np.nan
    return found


def _first(own: Float64 | None, other: Float64 | None) -> Float64 | None:
    return own if own is None or other is None else np.where(np.isnan(own), other, own)


def _known(figures: Float64) -> tuple[float | None, ...]:
    return tuple([None if isnan(each) else each for each in figures.tolist()])
