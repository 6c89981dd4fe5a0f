"""What the ledger keeps count of, for metrics."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class LedgerCounters:
    """What happened since the start of the process.

    Attributes:
        refused: By a limit, by kind of scope.
        refused_for_outage: Budgeted requests refused while the store was down (``closed``).
        served_unchecked: Budgeted requests served while the store was down (``open``).
        leases_expired: Leases that expired unsettled and were charged in full.
        leases_lost: Own leases that ended while their request ran; their settlement corrects them.
        store_failures: Calls of the store that failed.
    """

    reserved: int = 0
    settled: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    refused_for_outage: int = 0
    served_unchecked: int = 0
    leases_expired: int = 0
    leases_renewed: int = 0
    leases_lost: int = 0
    store_failures: int = 0
