"""Which scopes a request belongs to, and which limits bind it there."""

from budget.ledger.settlements import Lease, limit_code, limit_codes
from budget.ledger.types import Limit, OutputCap
from gateway.budgets.book import BudgetBook
from gateway.budgets.conversation import AnsweredConversations, conversation, end_user
from gateway.types import Caller
from gateway.wire import ChatRequest


class ScopeNames:
    """Names key, end user and conversation as far as anything limits them; for one event loop.

    Args:
        from_prefix: Recognise conversations by how they open.
    """

    def __init__(self, book: BudgetBook, *, from_prefix: bool) -> None:
        self._book = book
        self._from_prefix = from_prefix
        self._answers = AnsweredConversations()

    def conversation(self, request: ChatRequest, caller: Caller) -> str | None:
        """Return the digest of the conversation that a request belongs to; None without one."""
        return conversation(request, caller, from_prefix=self._from_prefix, answers=self._answers)

    def note_answer(self, team_id: str, answer_id: str, conversation_digest: str) -> None:
        """Remember which conversation an answer belongs to."""
        self._answers.note(team_id, answer_id, conversation_digest)

    def lease(
        self,
        request_id: str,
        caller: Caller,
        request: ChatRequest,
        cap: OutputCap | None,
        now_unix_s: float,
        *,
        is_fallback: bool = False,
    ) -> tuple[Lease | None, tuple[Limit, ...]]:
        """Return whose the reservation is and its limits; None where nothing limits it.

        Args:
            is_fallback: The request was counted before: limits of requests are left out.
        """
        kinds = self._book.limited_kinds(caller.team_id)
        allotted = None if cap is None else cap.limit
        user = end_user(request, caller) if "user" in kinds else None
        talk = None
        if allotted is not None:
            talk = allotted.scope.id
        elif "conversation" in kinds:
            talk = self.conversation(request, caller)
        known = self._book.limits(caller.team_id, caller.key_id, user, talk)
        limits, codes = known.limits, known.codes
        if allotted is not None:
            limits, codes = (*limits, allotted), f"{codes.rstrip()} {limit_code(allotted)} "
        if is_fallback:
            limits = tuple(limit for limit in limits if limit.measure != "requests")
            codes = limit_codes(limits)
        if not limits:
            return None, ()
        lease = Lease(
            request_id=request_id,
            team_id=caller.team_id,
            key_id=caller.key_id,
            user_digest=user,
            conversation_digest=talk,
            limits=codes,
            reserved_at_unix_s=now_unix_s,
        )
        return lease, limits
