"""A gateway that is told where to tell of budgets tells it."""

import time
from typing import Any

import orjson

from budget.ledger.settlements import Lease, SettlementRecord
from tests.fakes.budgets import budget, migrated, write
from tests.fakes.gateway import running_gateway
from tests.fakes.server import serve


async def test_what_was_spent_before_a_start_is_told_at_the_start(tmp_path):
    taken: list[dict[str, Any]] = []

    async def webhook(scope: Any, receive: Any, send: Any) -> None:
        taken.append(orjson.loads((await receive())["body"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    engine = migrated(f"sqlite:///{tmp_path / 'waypost.db'}")
    made = budget(engine, 1_000)
    lease = Lease("r", "blue", "k", None, None, " tna ", time.time())
    spent = SettlementRecord(lease, "m", 900, 9, 900, 9, False, "answered", time.time())  # noqa: FBT003
    await write(engine, tmp_path / "spool", spent)
    engine.dispose()

    async with serve(webhook) as url, running_gateway(tmp_path, budgets={"webhook_url": url}):
        pass

    (notice,) = taken
    assert (notice["percent"], notice["spent"]) == (80, 900)
    assert notice["budget"]["id"] == made.id
