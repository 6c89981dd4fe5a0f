"""Tables of what is passed through are checked as a whole."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings.config import GatewaySettings
from gateway.settings.passthrough import PassthroughSettings

TABLE = {"provider": "p", "path": "/v1/moderations", "price_per_call_usd": 0.0}


def settings(**tables: dict[str, Any]) -> GatewaySettings:
    providers = {"p": {"base_url": "http://p"}}
    return GatewaySettings.model_validate(
        {"data_dir": "data", "providers": providers, "passthrough": tables}
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"provider": "q"}, r"there is no \[providers.q\] table"),
        ({"path": "/v1/a/{id}", "upstream_path": "/v1/a", "teams": ["t"]}, "same parts in braces"),
        ({"path": "/v1/a/{id}/{id}", "teams": ["t"]}, "needs its own name"),
        ({"price_per_used_usd": 1.0}, "needs used_field and most_used"),
        ({"price_per_call_usd": float("inf")}, "finite"),
        ({"price_per_call_usd": -1}, "greater than or equal to 0"),
    ],
)
def test_a_table_that_cannot_be_meant_stops_the_start(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        settings(it={**TABLE, **fields})


def test_two_tables_do_not_serve_the_same_path() -> None:
    with pytest.raises(ValidationError, match="serves the same path"):
        settings(one=TABLE, two=TABLE)


def test_one_team_may_have_several_endpoints_that_keep_something() -> None:
    kept = {**TABLE, "teams": ["a"]}
    found = settings(files={**kept, "path": "/v1/files"}, one={**kept, "path": "/v1/files/{id}"})
    assert all(table.keeps for table in found.passthrough.values())


@pytest.mark.parametrize(
    "path", ["/v1/images/edits", "/v1/audio/speech", "/v1/moderations", "/v1/ocr"]
)
def test_what_is_known_to_keep_nothing_is_for_every_team(path: str) -> None:
    table = PassthroughSettings.model_validate({**TABLE, "path": path})
    assert not table.keeps
