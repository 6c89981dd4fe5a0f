"""What becomes of the rows of the log."""

from dataclasses import dataclass


@dataclass(slots=True)
class LogCounters:
    """What became of the rows, since the start of the process.

    Attributes:
        recorded: Taken by `record`, `record_grade` and `record_settlement`.
        written: In the database, replayed rows included.
        spooled: Put in the spool.
        replayed: Of those written, the ones that came from the spool.
        dropped_queue: Refused because the queue was full.
        dropped_rows: Refused by the database for their content, or torn in the spool by a crash.
        dropped_at_close: Neither written nor spooled when the process ended.
        pruned: Deleted for their age.
        outages: Times the database became unreachable.
    """

    recorded: int = 0
    written: int = 0
    spooled: int = 0
    replayed: int = 0
    dropped_queue: int = 0
    dropped_rows: int = 0
    dropped_at_close: int = 0
    pruned: int = 0
    outages: int = 0

    @property
    def dropped(self) -> int:
        """All rows that are lost."""
        return self.dropped_queue + self.dropped_rows + self.dropped_at_close
