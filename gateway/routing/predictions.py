"""What a router predicts for the models of a pool, at the prices of today."""

from math import inf
from typing import NamedTuple

from gateway.routing.candidates import CandidatePool
from gateway.routing.expected_cost import CacheCosts, asked_limit, bounded
from gateway.routing.plan import Scores, with_caches
from gateway.wire import ChatRequest
from router_models.artifacts.router import Router
from router_models.types import Float32


class Asked(NamedTuple):
    """What a router is asked about.

    Attributes:
        embedding: Of the query, with its request's shape.
        caches: What they change in the costs of the pool; None where nothing is known of any.
    """

    embedding: Float32
    request: ChatRequest
    team_id: str
    caches: CacheCosts | None = None


def predicted(router: Router, pool: CandidatePool, asked: Asked, *, with_stderr: bool) -> Scores:
    """Ask a router about a query of a team; what it predicts in tokens is priced."""
    embedding, request, team_id, caches = asked
    stderr = router.quality_stderr(embedding, pool.names) if with_stderr else None
    found = router.predict_pool(embedding, pool.names, team_id)
    tokens = found.completion_tokens
    if tokens is None:
        return Scores(found.quality, found.cost_usd, found.familiarity, stderr)
    limit = asked_limit(request.body)
    if limit < inf:
        tokens = bounded(tokens, limit)
    cost_usd = pool.prices.cost_usd(request.prompt_tokens, tokens)
    scores = Scores(found.quality, cost_usd, found.familiarity, stderr, tokens)
    return with_caches(scores, caches)
