"""Two gateways that count in memory, on one database: real processes, killed and stopped."""

import signal
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Engine

from tests.fakes.budgets import budget, migrated
from tests.fakes.processes import Serving, start

SETTINGS = """
[server]
port = 0
admin_port = 0
[providers.alpha]
base_url = "http://127.0.0.1:9/v1"
[models.small]
provider = "alpha"
price = { input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }
[routing]
encoder = "static"
"""
WARNING = "another gateway counts in its own memory"


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file, database = tmp_path / "waypost.toml", f"sqlite:///{tmp_path / 'waypost.db'}"
    file.write_text(f'data_dir = "{tmp_path}"\ndatabase.url = "{database}"\n{SETTINGS}')
    engine: Engine = migrated(database)
    budget(engine, 1)
    engine.dispose()
    return file


async def ready(serving: Serving) -> tuple[int, str]:
    async with httpx2.AsyncClient(trust_env=False) as http:
        url = await serving.started()
        answer = await http.get(f"{url}/ready")
        return answer.status_code, answer.text + (
            await http.get(f"{serving.admin_url}/metrics")
        ).text


async def test_the_second_of_two_warns_wherever_an_operator_looks_and_serves(settings_file):
    async with start(settings_file) as first:
        well = await ready(first)
        async with start(settings_file) as second:
            warned = await ready(second)
            await second.end(signal.SIGTERM)
            logged = second.logged
    assert (well[0], warned[0]) == (200, 200)
    assert "waypost_budget_counted_apart 0.0" in well[1]
    assert "waypost_budget_counted_apart 1.0" in warned[1]
    assert WARNING not in well[1] + "".join(first.printed)
    assert WARNING in warned[1]
    assert f"process {first.process.pid} on host" in "".join(second.printed)
    assert WARNING in logged


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_warns_of_nobody(settings_file, number):
    for _ in range(2):
        async with start(settings_file) as serving:
            status, said = await ready(serving)
            await serving.end(number)
        assert status == 200
        assert WARNING not in said + "".join(serving.printed)
