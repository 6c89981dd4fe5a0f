"""Records turns until it is killed: ``log_writer.py DATABASE_URL SPOOL_DIR PREFIX [USER_ID]``.

Prints a line once a row is safe on disk, so that a test knows when to kill it.
"""

import asyncio
import os
import sys
from pathlib import Path

from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.settings.config import EvaluationLogSettings
from gateway.storage.database import create_database_engine
from tests.fakes.turns import make_turn, until

ROWS = 200


async def main(url: str, spool_dir: str, prefix: str, user_id: str = "") -> None:
    """Record rows, as user `user_id`, report, and go on until somebody ends the process."""
    engine = create_database_engine(url, busy_timeout_s=0.05)
    if user_id:  # only now: an interpreter in root's home could not be started by another user
        os.setgid(int(user_id))
        os.setuid(int(user_id))
    settings = EvaluationLogSettings(flush_interval_s=0.01, retention_days=None)
    log = EvaluationLog(engine, settings, Path(spool_dir))
    log.start()
    for number in range(ROWS):
        log.record(make_turn(number, request_id=f"{prefix}_{number:06d}"))
    await until(lambda: log.counters.spooled + log.counters.written >= ROWS)
    print(f"spooled {log.counters.spooled} written {log.counters.written}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
