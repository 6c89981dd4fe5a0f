"""What can go wrong with budgets, in the words of whoever caused it."""


class BudgetError(Exception):
    """A request cannot be admitted.

    Args:
        message: What the caller can do.
        retry_after_s: When trying again may help; None where it does not.

    Attributes:
        headers: Response headers that say where the limit stands; set by the gateway.
    """

    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class BudgetExhausted(BudgetError):
    """A budget has no room for the worst case of this request.

    Args:
        message: What ran out and what the caller can do.
        limit_source: Kind of the scope that refused: team, key, user, conversation or turn.
        is_money: Whether money ran out, of which another model may need less.
        retry_after_s: When trying again may help; None where only a higher cap does.

    Attributes:
        limit: The limit that refused, for the log.
    """

    limit: str | None = None

    def __init__(
        self,
        message: str,
        *,
        limit_source: str = "",
        is_money: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limit_source = limit_source
        self.is_money = is_money


class LedgerUnavailable(BudgetError):
    """The store of the counters cannot be reached or does not answer in time."""


class ShareExceeded(BudgetError):
    """Who asks holds too much already of what all share."""


class CapacityExceeded(BudgetError):
    """All together hold too much already."""


class InvalidProblems(Exception):
    """A file of multi-turn problems that nothing can be learned from, and why."""
