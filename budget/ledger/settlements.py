"""One row of the journal, and the idempotency key that says whose reservation a lease is.

The gateway that finds an expired lease did not make the reservation, and must still journal whose
it was. So the key under which the store keeps a lease holds these fields, separated by colons:

    request id : reserved at, Unix s : key id : user : conversation : limits : version

A user or conversation that the request did not name is ``-``; limits are codes joined by dots. The
version is ``v1``, or ``v1-late`` in a `late_idempotency_key`. Keys written before there was a
version end after the limits, or in ``late``; they are still read. All other keys are foreign.
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
_VERSION: Final = "v1"
_LATE: Final = "-late"
_READABLE: Final = frozenset({"", "late", _VERSION, _VERSION + _LATE})


@dataclass(frozen=True, slots=True)
class Lease:
    """Who made a reservation, which limits it is charged to, and when it was made.

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
        """Key under which the store keeps the lease; unique because the request id is."""
        parts = (
            self.request_id,
            f"{self.reserved_at_unix_s:.3f}",
            self.key_id,
            self.user_digest or _NOBODY,
            self.conversation_digest or _NOBODY,
            self.limits.strip().replace(" ", "."),
            _VERSION,
        )
        return _SEPARATOR.join(parts)

    @property
    def late_idempotency_key(self) -> str:
        """Key for charging a request afterwards that was served without a hold.

        Not `idempotency_key`: the store may have reserved under that one, and then releases it.
        """
        return self.idempotency_key + _LATE


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
        acknowledges: Charge to acknowledge to the store once this row is on disk; None for none.
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
    """Write the codes of `limits`, each between two spaces, so that SQL can search for one."""
    return " " + "".join(f"{limit_code(limit)} " for limit in limits)


def limit_code(limit: Limit) -> str:
    """Return the code of a limit's scope kind, measure and window: three letters."""
    return limit_type_code(limit.scope.kind, limit.measure, limit.window)


def limit_type_code(kind: ScopeKind, measure: Measure, window: Window) -> str:
    """Return the code of a scope kind, a measure and a window: three letters."""
    return _KINDS[kind] + _MEASURES[measure] + _WINDOWS[window]


def parse_limit_codes(codes: str) -> dict[str, tuple[ScopeKind, Measure, Window]]:
    """Parse the result of `limit_codes`; scope kind, measure and window by code."""
    return {
        each: (_KIND_OF[each[0]], _MEASURE_OF[each[1]], _WINDOW_OF[each[2]])
        for each in codes.split()
    }


def settlement_from_charge(charge: UnjournaledCharge, now_unix_s: float) -> SettlementRecord:
    """Build the journal row of a charge that the gateway which made it has not journaled.

    How the request ended, which model answered and how much was held are no longer known.
    """
    return SettlementRecord(
        lease=_read_lease(charge, now_unix_s),
        model=None,
        held_nusd=charge.nusd,
        held_tokens=charge.tokens,
        charged_nusd=charge.nusd,
        charged_tokens=charge.tokens,
        charged_output_tokens=charge.output,
        is_estimated=True,
        outcome=EXPIRED if charge.is_expired else RECOVERED,
        settled_at_unix_s=now_unix_s,
        acknowledges=charge,
    )


def _read_lease(charge: UnjournaledCharge, now_unix_s: float) -> Lease:
    """Parse a lease out of its idempotency key; of a foreign key only the key itself is known."""
    parts = charge.request_id.split(_SEPARATOR)
    if len(parts) not in (6, 7) or "".join(parts[6:]) not in _READABLE:
        return Lease(charge.request_id, charge.team_id, "", None, None, " ", now_unix_s)
    request_id, reserved_at, key_id, user, conversation, codes = parts[:6]
    return Lease(
        request_id=request_id,
        team_id=charge.team_id,
        key_id=key_id,
        user_digest=None if user == _NOBODY else user,
        conversation_digest=None if conversation == _NOBODY else conversation,
        limits=f" {codes.replace('.', ' ')} ",
        reserved_at_unix_s=float(reserved_at),
    )
