from pathlib import Path

import pytest

from gateway.server.workers import check_settings
from gateway.settings.config import ConfigurationError, GatewaySettings

REDIS = {"store": "redis", "redis_url": "redis://127.0.0.1:1/0"}
PROVIDER = {"acme": {"base_url": "http://127.0.0.1:1/v1"}}


def settings(workers: int, **tables: object) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {"data_dir": Path("data"), "server": {"workers": workers}, **tables}
    )


def test_one_worker_may_count_in_memory_and_run_a_pool():
    check_settings(settings(1))


def test_several_workers_may_not_count_budgets_in_memory():
    with pytest.raises(ConfigurationError, match=r'needs budgets\.store = "redis"'):
        check_settings(settings(2, providers=PROVIDER))


@pytest.mark.parametrize(
    "tables",
    [{}, {"embedded": {"enabled": True}, "providers": PROVIDER}],
    ids=["by default", "switched on"],
)
def test_several_workers_may_not_run_an_embedded_pool(tables):
    with pytest.raises(ConfigurationError, match="the embedded pool serves one worker"):
        check_settings(settings(2, budgets=REDIS, **tables))


@pytest.mark.parametrize("embedded", [{}, {"enabled": False}])
def test_several_workers_may_serve_configured_providers_with_redis(embedded):
    check_settings(settings(2, budgets=REDIS, providers=PROVIDER, embedded=embedded))
