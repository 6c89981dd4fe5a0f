"""Every exchange that a site answers."""

from typing import Final

from federation.exchanges.exchange import Exchange
from federation.exchanges.guard import GUARD_EXCHANGES
from federation.exchanges.kmeans import CellExchange, CentroidExchange
from federation.exchanges.mlp import HeadExchange, LossExchange, WeightExchange
from federation.exchanges.mlp_sums import HeadSumExchange, LossSumExchange, WeightSumExchange
from federation.exchanges.ridge import GramExchange
from federation.exchanges.rows import RowSumExchange

EXCHANGES: Final[tuple[Exchange, ...]] = (
    RowSumExchange(),
    CentroidExchange(),
    CellExchange(),
    WeightExchange(),
    HeadExchange(),
    LossExchange(),
    WeightSumExchange(),
    HeadSumExchange(),
    LossSumExchange(),
    GramExchange(),
    *GUARD_EXCHANGES,
)
"""A site answers no others."""
