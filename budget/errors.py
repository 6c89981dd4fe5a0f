"""What can go wrong with budgets, in the words of whoever caused it."""


class BudgetExhausted(Exception):
    """A budget has no room for the worst case of this request.

    Args:
        message: What ran out and what the caller can do.
        limit_source: Kind of the scope that refused: team, key, user, conversation or turn.
        retry_after_s: When trying again may help; None where only a higher cap does.

    Attributes:
        headers: Response headers that say where the limit stands; set by the ledger.
    """

    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(
        self, message: str, *, limit_source: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.limit_source = limit_source
        self.retry_after_s = retry_after_s


class InvalidProblems(Exception):
    """A file of multi-turn problems that nothing can be learned from, and why."""
