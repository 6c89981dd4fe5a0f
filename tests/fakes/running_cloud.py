"""A cloud that lets one gateway in: what issues credentials, and what answers for its models."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.providers.base import UpstreamCall
from gateway.providers.factory import build_providers
from gateway.providers.http import HttpClient
from gateway.providers.upstream import HttpProvider
from gateway.settings.config import ProviderSettings
from gateway.types import HostedModel, ModelPrice, NativeRequest
from tests.fakes.clocks import ManualClock
from tests.fakes.clouds import Issuer
from tests.fakes.server import serve
from tests.fakes.upstream import ScriptedUpstream, completion, json_answer

NOW_S = 1000.0
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
AWS = {"cloud": "aws", "region": "eu-west-1"}
_OF_CLOUDS = re.compile(r"(AWS|AZURE|GOOGLE|IDENTITY|MSI|GCE)_\w+|CLOUDSDK_\w+")


@dataclass
class Cloud:
    """A cloud that lets one gateway in.

    Attributes:
        issuer: Of its credentials.
        api: What scripts its models' answers.
        account: The file of a Google service account.
    """

    issuer: Issuer
    api: ScriptedUpstream
    url: str
    account: Path
    http: HttpClient
    clock: ManualClock

    @property
    def google(self) -> dict[str, Any]:
        """Settings that sign in as its service account."""
        return {"cloud": "google", "credentials_file": self.account}

    def provider(self, **settings: Any) -> HttpProvider:
        """Build a provider of it."""
        table = ProviderSettings.model_validate(
            {"base_url": self.url, "max_retries": 0, **settings}
        )
        return build_providers({"cloud": table}, self.http, clock=self.clock)["cloud"]


@asynccontextmanager
async def running_cloud(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    """Run a cloud whose credentials a process with this environment finds.

    Args:
        patch: Of the environment, which the clouds' libraries read themselves.
    """
    issuer, api = Issuer(), ScriptedUpstream(json_answer(completion()))
    for name in filter(_OF_CLOUDS.fullmatch, list(os.environ)):
        patch.delenv(name)
    http = HttpClient.open()
    async with serve(issuer) as issuing, serve(api) as url:
        environment = {
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(folder / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "profiles"),
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{issuing}/role",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "of-this-pod",
            "IDENTITY_ENDPOINT": f"{issuing}/identity",
            "IDENTITY_HEADER": "of-this-app",
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        account = issuer.service_account(folder, issuing)
        yield Cloud(issuer, api, url, account, http, ManualClock(NOW_S))
    await http.aclose()


def call(upstream_name: str = "up", **body: Any) -> UpstreamCall:
    """Ask a model of a cloud to answer a chat."""
    asked = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], **body}
    return UpstreamCall(_model(upstream_name), asked, NOW_S + 1e6, "req-1")


def native_call(upstream_name: str, **headers: str) -> UpstreamCall:
    """Ask it on Anthropic's own wire."""
    body = {"max_tokens": 7, "messages": [{"role": "user", "content": "Hi"}]}
    native = NativeRequest("messages", body, headers)
    return UpstreamCall(_model(upstream_name), body, NOW_S + 1e6, "req-1", native=native)


def _model(upstream_name: str) -> HostedModel:
    return HostedModel("fast", "cloud", upstream_name, ModelPrice(1, 1))
