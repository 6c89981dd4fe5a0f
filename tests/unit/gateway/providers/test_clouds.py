"""What an operator may say of a cloud, and what is told of it at the start."""

import sys
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.providers.clouds import fetcher, is_at_aws
from gateway.settings.base import ConfigurationError
from gateway.settings.cloud import CloudSettings
from gateway.settings.config import ProviderSettings

RUNTIME = "https://bedrock-runtime.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("cloud", "module"), [("aws", "botocore.auth"), ("google", "google.auth"), ("azure", "azure")]
)
def test_a_library_that_is_missing_ends_the_start_with_the_name_of_its_extra(
    monkeypatch: pytest.MonkeyPatch, cloud: Any, module: str
) -> None:
    for loaded in [name for name in sys.modules if name.startswith(module)]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ConfigurationError, match=rf"pip install 'waypost\[{cloud}\]'"):
        fetcher("p", RUNTIME, CloudSettings(cloud=cloud))


def test_a_region_that_no_host_names_has_to_be_given() -> None:
    with pytest.raises(ConfigurationError, match=r"providers\.p\.auth\.region: needed"):
        fetcher("p", "https://proxy.example", CloudSettings(cloud="aws"))


@pytest.mark.parametrize(
    ("address", "service"),
    [
        (RUNTIME, "bedrock"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/openai/v1", "bedrock"),
        ("https://bedrock-mantle.us-east-1.api.aws/anthropic", "bedrock-mantle"),
    ],
)
def test_the_host_says_what_is_signed_for(
    monkeypatch: pytest.MonkeyPatch, address: str, service: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")

    keys = fetcher("p", address, CloudSettings(cloud="aws"))()
    signed = keys.headers("POST", address, "application/json", b"{}")

    region = address.split(".")[1]
    assert f"/{region}/{service}/aws4_request" in signed["Authorization"]
    assert is_at_aws(address)
    assert "a-secret-key" not in repr(keys)


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        ({"cloud": "aws", "scope": "x"}, "`scope` means nothing"),
        ({"cloud": "google", "region": "x"}, "`region` means nothing"),
        ({"cloud": "azure", "profile": "x"}, "`profile` means nothing"),
        ({"cloud": "ibm"}, "Input should be"),
    ],
)
def test_a_setting_of_another_cloud_is_refused(auth: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ProviderSettings.model_validate({"base_url": RUNTIME, "auth": auth})


def test_a_key_and_a_cloud_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="`api_key` or `auth`, not both"):
        ProviderSettings.model_validate(
            {"base_url": RUNTIME, "api_key": "k", "auth": {"cloud": "aws"}}
        )
