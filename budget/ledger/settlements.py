"""What the journal says of one reservation, and how a lease carries it.

Whoever finds a lease expired did not reserve it, and must still journal whose it was. So the name
under which the store knows a lease says so itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from budget.ledger.types import Limit, Measure, ScopeKind, UnjournaledCharge, Window

EXPIRED: Final = "expired"
RECOVERED: Final = "recovered"
RESET: Final = "reset"
_KINDS: Final[dict[ScopeKind, str]] = {
    "team": "t",
    "key": "k",
    "user": "u",
    "conversation": "c",
    "turn": "r",
}
_MEASURES: Final[dict[Measure, str]] = {
    "nusd": "n",
    "tokens": "t",
    "output": "o",
    "requests": "r",
    "concurrent": "c",
}
_WINDOWS: Final[dict[Window, str]] = {
    "now": "0",
    "minute": "i",
    "hour": "h",
    "day": "d",
    "week": "w",
    "month": "m",
    "total": "a",
}
_KIND_OF: Final = {letter: kind for kind, letter in _KINDS.items()}
_MEASURE_OF: Final = {letter: measure for measure, letter in _MEASURES.items()}
_WINDOW_OF: Final = {letter: window for window, letter in _WINDOWS.items()}
_SEPARATOR: Final = ":"
_NOBODY: Final = "-"


@dataclass(frozen=True, slots=True)
class Lease:
    """Whose a reservation is, which limits it is charged to, and since when.

    Attributes:
        user_digest: None where the request named no end user; `conversation_digest` likewise.
        limits: As `limit_codes` writes them.
    """

    request_id: str
    team_id: str
    key_id: str
    user_digest: str | None
    conversation_digest: str | None
    limits: str
    reserved_at_unix_s: float

    @property
    def idempotency_key(self) -> str:
        """The idempotency key under which the store knows it; unique as the request id is."""
        parts = (
            self.request_id,
            f"{self.reserved_at_unix_s:.3f}",
            self.key_id,
            self.user_digest or _NOBODY,
            self.conversation_digest or _NOBODY,
            self.limits.strip().replace(" ", "."),
        )
        return _SEPARATOR.join(parts)

    @property
    def late_idempotency_key(self) -> str:
        """The key for charging it after the fact, when it was served without a hold.

        Not `idempotency_key`: the store may have held that after all, and then it gives that back.
        """
        return f"{self.idempotency_key}{_SEPARATOR}late"


@dataclass(frozen=True, slots=True)
class SettlementRecord:
    """One row of the journal.

    Attributes:
        model: What answered; None where nothing did, or nobody knows.
        charged_tokens: Of prompt and completion; `charged_output_tokens` of the completion alone.
        charged_requests: 1; in a reset, what is taken back, as a negative number.
        is_estimated: Charged by a count of the gateway's own, or in full for want of any.
        outcome: ``answered``, the class of an error, ``ClientLeft``, ``expired``, ``recovered``
            (settled by a gateway that died before it wrote the row), ``reset`` or ``opening``.
        acknowledges: What the store is told once the row is kept; None where it waits for nothing.
    """

    lease: Lease
    model: str | None
    held_nusd: int
    held_tokens: int
    charged_nusd: int
    charged_tokens: int
    is_estimated: bool
    outcome: str
    settled_at_unix_s: float
    charged_requests: int = 1
    charged_output_tokens: int = 0
    acknowledges: UnjournaledCharge | None = None


def limit_codes(limits: Iterable[Limit]) -> str:
    """Write which limits these are, three letters each, every one between two spaces."""
    return " " + "".join(f"{limit_code(limit)} " for limit in limits)


def limit_code(limit: Limit) -> str:
    """Name a limit's kind of scope, measure and window in three letters."""
    return limit_type_code(limit.scope.kind, limit.measure, limit.window)


def limit_type_code(kind: ScopeKind, measure: Measure, window: Window) -> str:
    """Name a kind of scope, a measure and a window in three letters."""
    return _KINDS[kind] + _MEASURES[measure] + _WINDOWS[window]


def parse_limit_codes(codes: str) -> dict[str, tuple[ScopeKind, Measure, Window]]:
    """Read what `limit_codes` wrote."""
    return {
        each: (_KIND_OF[each[0]], _MEASURE_OF[each[1]], _WINDOW_OF[each[2]])
        for each in codes.split()
    }


def settlement_from_charge(found: UnjournaledCharge, now_unix_s: float) -> SettlementRecord:
    """Make the journal row of a charge that its own gateway has not journaled.

    How the request ended, which model answered and what was held is not known any more.
    """
    return SettlementRecord(
        lease=_read_lease(found, now_unix_s),
        model=None,
        held_nusd=found.nusd,
        held_tokens=found.tokens,
        charged_nusd=found.nusd,
        charged_tokens=found.tokens,
        charged_output_tokens=found.output,
        is_estimated=True,
        outcome=EXPIRED if found.is_expired else RECOVERED,
        settled_at_unix_s=now_unix_s,
        acknowledges=found,
    )


def _read_lease(found: UnjournaledCharge, now_unix_s: float) -> Lease:
    """Read a lease back from its name; of a foreign name only the name is known."""
    parts = found.request_id.split(_SEPARATOR)
    if len(parts) not in (6, 7):
        return Lease(found.request_id, found.team_id, "", None, None, " ", now_unix_s)
    request_id, reserved_at, key_id, user, conversation, codes = parts[:6]
    return Lease(
        request_id=request_id,
        team_id=found.team_id,
        key_id=key_id,
        user_digest=None if user == _NOBODY else user,
        conversation_digest=None if conversation == _NOBODY else conversation,
        limits=f" {codes.replace('.', ' ')} ",
        reserved_at_unix_s=float(reserved_at),
    )
