"""Attack a gateway for some minutes: does it serve, keep its memory, its caps and its rows?

Usage: python -m benchmarks.attack_loop.run [--minutes 10] [--out FILE] [--postgres] [--redis]

Needs `pip install -e '.[dev]'`. Attackers, upstream and probe are processes of their own; see
README.md. Exits with status 1 where a promise was not held.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.attack_loop.deployment import CAP_NUSD, Deployment, Keys, deployed, running
from benchmarks.attack_loop.verdict import broken, by_attack, by_spending, spread_ms, table
from benchmarks.attack_loop.wire import Tally, Target, chat, exchange
from tests.fakes.processes import ROOT

KINDS = ("availability", "dripping", "money")
WARM_REQUESTS = 200
FILLING_S = 60.0
REST_S = 20.0
"""For open requests to end and for the log to be written, before memory and rows are looked at."""
LATE_S = 120.0
"""How long after the end an attack that was begun may go on."""
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def family(pid: int) -> list[int]:
    """Return `pid` and its descendants."""
    found = [pid]
    for member in found:
        with suppress(OSError):
            children = Path(f"/proc/{member}/task/{member}/children").read_text()
            found += map(int, children.split())
    return found


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its descendants."""
    total = 0.0
    for member in family(pid):
        with suppress(OSError):
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * PAGE_MB
    return round(total, 1)


def cpu_and_wait_s(pid: int) -> tuple[float, float]:
    """How long a process's first thread had a CPU, and how long it waited for one."""
    ran_ns, waited_ns, _ = map(int, Path(f"/proc/{pid}/schedstat").read_text().split())
    return ran_ns / 1e9, waited_ns / 1e9


async def spawn(module: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start a module of this package."""
    command = (sys.executable, "-m", f"benchmarks.attack_loop.{module}", *arguments)
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT)


async def warm(target: Target) -> None:
    """Have the gateway load all that it loads at its first requests, a tokenizer among it."""
    long = chat(target, "honest", "word " * 2_000, stream=True)
    await exchange(target, long, Tally(), leaves_at=b"word")
    for number in range(WARM_REQUESTS):
        await exchange(target, chat(target, "honest", f"Say {number}.", stream=number % 2), Tally())


async def start_attackers(
    deployment: Deployment, keys: Keys, folder: Path, stops_at_s: float
) -> list[asyncio.subprocess.Process]:
    """Start the attackers of all kinds; each writes to a file of `folder` named after its kind."""
    plan = folder / "plan.json"
    plan.write_text(
        json.dumps(
            {
                "port": deployment.port,
                "stops_at_s": stops_at_s,
                "keys": keys,
                "hostile_key": deployment.hostile_key,
            }
        )
    )
    return [
        await spawn("attackers", kind, str(plan), str(folder / f"{kind}.json")) for kind in KINDS
    ]


async def fill(deployment: Deployment, folder: Path) -> None:
    """Attack for a minute, so that caches, threads and heaps are as large as they become."""
    stops_at_s = time.monotonic() + FILLING_S
    for process in await start_attackers(deployment, deployment.filling_keys, folder, stops_at_s):
        async with asyncio.timeout(FILLING_S + LATE_S):
            await process.wait()
    await asyncio.sleep(REST_S)


async def watched(pid: int, processes: list[asyncio.subprocess.Process]) -> list[float]:
    """Read the gateway's memory every second until all attackers have ended."""
    readings: list[float] = []
    ended = asyncio.gather(*(process.wait() for process in processes))
    while not ended.done():
        readings.append(resident_mb(pid))
        await asyncio.wait([ended], timeout=1)
    return readings


async def billed_nusd(port: int) -> dict[str, int]:
    """Ask the upstream what it would bill."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /billed HTTP/1.1\r\n\r\n")
    answer = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    billed: dict[str, int] = json.loads(answer)
    return billed


async def attack(
    deployment: Deployment, control: tuple[int, int], folder: Path, minutes: float
) -> dict[str, Any]:
    """Run all attackers and the probes; returns what each wrote, and the gateway's memory."""
    pid = deployment.gateway.process.pid
    await warm(Target(deployment.port, deployment.hostile_key))
    await asyncio.sleep(2)
    fresh_mb = resident_mb(pid)
    await fill(deployment, folder)
    start_mb, (cpu_s, waited_s) = resident_mb(pid), cpu_and_wait_s(pid)
    stops_at_s = time.monotonic() + 60 * minutes
    probed = {"probe": (deployment.port, pid), "control": control}
    outs = {name: folder / f"{name}.json" for name in (*KINDS, *probed)}
    processes = await start_attackers(deployment, deployment.keys, folder, stops_at_s)
    for name, place in probed.items():
        processes.append(await spawn("probe", *map(str, (*place, stops_at_s, outs[name]))))
    async with asyncio.timeout(60 * minutes + LATE_S):
        readings = await watched(pid, processes)
    ended_cpu_s, ended_waited_s = cpu_and_wait_s(pid)
    await asyncio.sleep(REST_S)
    return {name: json.loads(out.read_text()) for name, out in outs.items()} | {
        "memory_mb": {
            "fresh": fresh_mb,
            "start": start_mb,
            "peak": max(readings),
            "end": resident_mb(pid),
        },
        "loop_cpu_s": round(ended_cpu_s - cpu_s, 1),
        "loop_waited_for_cpu_s": round(ended_waited_s - waited_s, 1),
    }


async def measure(minutes: float, *, on_postgres: bool, on_redis: bool) -> dict[str, Any]:
    """Deploy, attack, and put the figures together."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = {"on_postgres": on_postgres, "on_redis": on_redis}
        async with deployed(folder, minutes, **stores) as deployment, running("control") as control:
            seen = await attack(deployment, control, folder, minutes)
            billed = await billed_nusd(deployment.upstream_port)
            charged = deployment.charged_nusd()
            answered = [one for kind in KINDS for run in seen[kind] for one in run["answered"]]
            missing = deployment.missing(answered)
    probe, idle = seen["probe"], seen["control"]
    asked = (probe["asked"], idle["asked"])
    return {
        "about": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "minutes": minutes,
            "stores": stores,
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "load_average": os.getloadavg(),
            "probe_nice": probe["nice"],
        },
        "health_ms": spread_ms([took for _, took, _ in probe["asked"]]),
        "health_cpu_ms": spread_ms([used for _, _, used in probe["asked"]]),
        "control_ms": spread_ms([took for _, took, _ in idle["asked"]]),
        "health_failed": probe["failed"],
        "probe_woken_late_ms": spread_ms(probe["late"]),
        "memory_mb": seen["memory_mb"],
        "loop_cpu_s": seen["loop_cpu_s"],
        "loop_waited_for_cpu_s": seen["loop_waited_for_cpu_s"],
        "rows": {"answers": len(answered), "missing": missing},
        "availability": by_attack(seen["availability"], *asked),
        "dripping": by_attack(seen["dripping"], *asked),
        "money": by_spending(seen["money"], charged, billed, CAP_NUSD),
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    parser.add_argument("--postgres", action="store_true", help="Instead of SQLite.")
    parser.add_argument("--redis", action="store_true", help="Instead of counters in memory.")
    given = parser.parse_args()
    stores = {"on_postgres": given.postgres, "on_redis": given.redis}
    results = asyncio.run(measure(given.minutes, **stores))
    results["not_held"] = broken(results)
    given.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    slowest = ("health_max_ms", "cpu_max_ms", "control_max_ms", "longest_s")
    attacks = results["availability"] + results["dripping"]
    print(table(("name", "runs", *slowest, "statuses"), attacks), end="\n\n")
    shares = ("charged_most", "billed_most")
    print(table(("name", "budgets", *shares, "statuses"), results["money"]), end="\n\n")
    for name in (
        "health_ms",
        "health_cpu_ms",
        "control_ms",
        "probe_woken_late_ms",
        "memory_mb",
        "rows",
    ):
        print(f"{name}: {results[name]}")
    ran_s, waited_s = results["loop_cpu_s"], results["loop_waited_for_cpu_s"]
    print(f"event loop: {ran_s} s of CPU, waited {waited_s} s for one")
    print("\nNot held:", *(results["not_held"] or ["nothing"]), sep="\n- ")
    return 1 if results["not_held"] else 0


if __name__ == "__main__":
    sys.exit(main())
