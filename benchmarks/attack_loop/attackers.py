"""Runs the attacks of one kind until the time is over. A process of its own.

Usage: python -m benchmarks.attack_loop.attackers availability|dripping|money PLAN OUT

An attacker's own work must not count as the gateway's, so it goes behind all others.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.attack_loop.attacks import AVAILABILITY, DRIPPING, MONEY, Named, Spending
from benchmarks.attack_loop.other_attacks import OTHERS
from benchmarks.attack_loop.wire import Tally, Target

NICE = 10
PAUSE_S = 0.5
"""Between two attacks, so that a slow answer can be put down to one of them."""
REFUSALS = 5
"""In a row, after which a budget is taken to be spent."""


async def attack_in_turn(
    attacks: Sequence[Named], target: Target, stops_at_s: float
) -> list[dict[str, Any]]:
    """Run the attacks one after the other, again and again; returns when each ran and its end."""
    runs: list[dict[str, Any]] = []
    while True:
        for named in attacks:
            if time.monotonic() >= stops_at_s:
                return runs
            tally, begun_s = Tally(), time.monotonic()
            await named.attack(target, tally)
            runs.append(
                {
                    "name": named.name,
                    "begun_s": begun_s,
                    "ended_s": time.monotonic(),
                    "statuses": tally.statuses,
                    "answered": tally.answered,
                }
            )
            await asyncio.sleep(PAUSE_S)


async def spend_all(
    name: str, attack: Spending, port: int, keys: Sequence[tuple[str, str]], stops_at_s: float
) -> dict[str, Any]:
    """Spend one budget after the other in one way.

    Args:
        keys: A user's name, which the upstream bills, and the user's key.
    """
    tally, used = Tally(), []
    for user, key in keys:
        refusals = 0
        used.append(user)
        while refusals < REFUSALS and time.monotonic() < stops_at_s:
            status = await attack(Target(port, key), user, tally)
            refusals = refusals + 1 if status == 429 else 0
            await asyncio.sleep(0.05)
        if time.monotonic() >= stops_at_s:
            break
    return {
        "name": name,
        "users": used,
        "statuses": tally.statuses,
        "answered": tally.answered,
    }


async def attack_as(kind: str, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the attacks of one kind."""
    port, stops_at_s = plan["port"], plan["stops_at_s"]
    if kind == "money":
        spending = (
            spend_all(name, attack, port, plan["keys"][name], stops_at_s)
            for name, attack in MONEY.items()
        )
        return list(await asyncio.gather(*spending))
    attacks = [DRIPPING] if kind == "dripping" else [*OTHERS, *AVAILABILITY]
    return await attack_in_turn(attacks, Target(port, plan["hostile_key"]), stops_at_s)


def main() -> None:
    """Attack, and write what came of it."""
    os.nice(NICE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kind, plan, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    out.write_text(json.dumps(asyncio.run(attack_as(kind, json.loads(plan.read_text())))))


if __name__ == "__main__":
    main()
