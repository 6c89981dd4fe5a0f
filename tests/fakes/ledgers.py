"""Limits and holds with few words, and a plain model of what a ledger store must answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from budget.ledger.types import Hold, Limit, Measure, Scope, UnjournaledCharge, Window
from budget.ledger.windows import window_bounds, window_start

TEAM = Scope("acme", "team")
KEY = Scope("acme", "key", "key-1")
CONVERSATION = Scope("acme", "conversation", "c:1")
REDELIVERY_S = 30.0


def limit(measure: Measure, window: Window, cap: int, scope: Scope = KEY) -> Limit:
    """A cap on the key, unless said otherwise."""
    return Limit(scope, measure, window, cap)


def hold(
    request_id: str,
    *limits: Limit,
    nusd: int = 0,
    tokens: int = 0,
    price: int = 1_000_000,
    least: int = 1,
    most: int = 100,
    lease_s: float = 60.0,
) -> Hold:
    """A hold whose completion tokens cost 1 nano-USD each, unless said otherwise."""
    return Hold(request_id, limits, nusd, tokens, price, least, most, lease_s)


def bounds(window: Window, unix_s: float) -> tuple[int, int]:
    """Return the bounds of a window that ends."""
    start, end = window_bounds(window, unix_s)
    assert end is not None
    return start, end


@dataclass
class ModelLease:
    """What the model remembers of one reservation."""

    hold: Hold
    starts: dict[Limit, int]
    completion: int
    nusd: int
    tokens: int
    ends_s: float
    is_open: bool = True
    charged_nusd: int = 0
    charged_tokens: int = 0
    charged_output: int = 0


@dataclass
class LedgerModel:
    """Sums every lease anew at every question: slow, and obviously right.

    Attributes:
        to_tell: Charges nobody has acknowledged, and when a caller is told of them.
    """

    leases: dict[str, ModelLease] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    to_tell: dict[str, tuple[float, UnjournaledCharge]] = field(default_factory=dict)

    def spent(self, of: Limit, now_s: float) -> int:
        """Sum what was charged to the current window."""
        return sum(
            _by_measure(
                of.measure, lease.charged_nusd, lease.charged_tokens, lease.charged_output, 1, 0
            )
            for lease in self._in_window(of, now_s)
        )

    def held(self, of: Limit, now_s: float) -> int:
        """Sum what open leases hold in the current window."""
        return sum(
            _by_measure(of.measure, lease.nusd, lease.tokens, lease.completion, 0, 1)
            for lease in self._in_window(of, now_s)
            if lease.is_open
        )

    def affords(self, wanted: Hold, completion: int, now_s: float) -> bool:
        """Whether every limit admits that many completion tokens."""
        nusd, tokens = _worst(wanted, completion)
        return all(
            self.spent(of, now_s)
            + self.held(of, now_s)
            + _by_measure(of.measure, nusd, tokens, completion, 1, 1)
            <= of.cap
            for of in wanted.limits
        )

    def grant(self, wanted: Hold, now_s: float) -> int | None:
        """Try every size from the largest on."""
        sizes = range(wanted.max_completion_tokens, wanted.min_completion_tokens - 1, -1)
        return next((n for n in sizes if self.affords(wanted, n, now_s)), None)

    def reserve(self, wanted: Hold, completion: int, now_s: float) -> None:
        """Note a granted hold."""
        nusd, tokens = _worst(wanted, completion)
        starts = {of: window_start(of.window, now_s) for of in wanted.limits}
        ends_s = now_s + wanted.lease_s
        self.leases[wanted.request_id] = ModelLease(
            wanted, starts, completion, nusd, tokens, ends_s
        )

    def settle(self, request_id: str, nusd: int, tokens: int, output: int, now_s: float) -> bool:
        """Charge what was used, once."""
        if request_id in self.settled:
            return False
        lease = self.leases[request_id]
        lease.is_open, lease.charged_output = False, output
        lease.charged_nusd, lease.charged_tokens = nusd, tokens
        self.settled.add(request_id)
        self._tell(lease, now_s + lease.hold.lease_s, is_expired=False)
        return True

    def expire(self, now_s: float) -> None:
        """Charge in full every open lease whose time is over."""
        for lease in self.leases.values():
            if lease.is_open and lease.ends_s <= now_s:
                lease.is_open = False
                lease.charged_nusd, lease.charged_tokens = lease.nusd, lease.tokens
                lease.charged_output = lease.completion
                self._tell(lease, now_s, is_expired=True)

    def tell(self, now_s: float) -> set[UnjournaledCharge]:
        """Take the charges whose turn it is; they come again after half a minute."""
        told = {charge for tell_s, charge in self.to_tell.values() if tell_s <= now_s}
        for charge in told:
            self.to_tell[charge.request_id] = (now_s + REDELIVERY_S, charge)
        return told

    def acknowledge(self, charge: UnjournaledCharge) -> None:
        """Never tell of this charge again; another one of the same request stays."""
        if self.to_tell.get(charge.request_id, (0.0, None))[1] == charge:
            del self.to_tell[charge.request_id]

    def resets_in_s(self, of: Limit, now_s: float) -> float | None:
        """Seconds to the end of the current window."""
        _, ends_s = window_bounds(of.window, now_s)
        return None if ends_s is None else ends_s - now_s

    def _tell(self, lease: ModelLease, tell_s: float, *, is_expired: bool) -> None:
        charge = UnjournaledCharge(
            lease.hold.request_id,
            "acme",
            lease.charged_nusd,
            lease.charged_tokens,
            is_expired,
            lease.charged_output,
        )
        self.to_tell[charge.request_id] = (tell_s, charge)

    def _in_window(self, of: Limit, now_s: float) -> Sequence[ModelLease]:
        start = window_start(of.window, now_s)
        return [lease for lease in self.leases.values() if lease.starts.get(of) == start]


def _worst(wanted: Hold, completion: int) -> tuple[int, int]:
    cost = -(-completion * wanted.completion_nusd_per_mtok // 1_000_000)
    return wanted.fixed_nusd + cost, wanted.fixed_tokens + completion


def _by_measure(
    measure: Measure, nusd: int, tokens: int, output: int, requests: int, concurrent: int
) -> int:
    amounts = {
        "nusd": nusd,
        "tokens": tokens,
        "output": output,
        "requests": requests,
        "concurrent": concurrent,
    }
    return amounts[measure]
