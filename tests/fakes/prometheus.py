"""A real Prometheus that scrapes what a test runs, every second."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import free_port
from tests.fakes.tools import find_tool


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    http: httpx2.AsyncClient

    async def instant(self, expr: str, at_unix_s: float | None = None) -> list[dict[str, Any]]:
        """Return the vector that `expr` is at a time, by default now."""
        given = {"query": expr} | ({} if at_unix_s is None else {"time": f"{at_unix_s}"})
        result: list[dict[str, Any]] = (await self._ask("query", given))["result"]
        return result

    async def over(
        self, expr: str, start_unix_s: float, end_unix_s: float, step_s: float
    ) -> list[dict[str, Any]]:
        """Return the matrix that `expr` is over time."""
        times = {"start": f"{start_unix_s}", "end": f"{end_unix_s}", "step": f"{step_s}"}
        result: list[dict[str, Any]] = (await self._ask("query_range", {"query": expr, **times}))[
            "result"
        ]
        return result

    async def metric_names(self) -> set[str]:
        """Return the name of every series it has seen."""
        return set(await self._ask("label/__name__/values", {}))

    async def rules(self) -> list[dict[str, Any]]:
        """Return the alert rules as they stand."""
        groups = (await self._ask("rules", {}))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def _ask(self, what: str, parameters: Mapping[str, str]) -> Any:
        answer = await self.http.get(f"/api/v1/{what}", params=dict(parameters))
        body = answer.json()
        assert body["status"] == "success", body
        return body["data"]


@asynccontextmanager
async def scraping(
    folder: Path, targets: Mapping[str, str], rule_files: Sequence[Path] = ()
) -> AsyncIterator[Prometheus]:
    """Run a server that scrapes these targets, ``host:port`` by job, every second."""
    program = find_tool("prometheus")
    config = folder / "prometheus.yml"
    # YAML is a superset of JSON.
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(file) for file in rule_files],
                "scrape_configs": [
                    {"job_name": job, "static_configs": [{"targets": [target]}]}
                    for job, target in targets.items()
                ],
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx2.AsyncClient(
            base_url=f"http://{address}", timeout=PATIENCE_S, trust_env=False
        ) as http:
            await _until_ready(process, http)
            yield Prometheus(http)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _until_ready(process: asyncio.subprocess.Process, http: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while process.returncode is None:
            try:
                if (await http.get("/-/ready")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)
    raise RuntimeError("Prometheus did not start; see prometheus.log")
