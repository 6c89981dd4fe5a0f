"""Builds the providers that the settings name."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import replace

from gateway.long_work import LongWork
from gateway.providers.anthropic import API_VERSION, AnthropicDialect
from gateway.providers.anthropic_clouds import BedrockDialect, VertexDialect
from gateway.providers.clouds import fetcher, is_at_aws
from gateway.providers.credentials import Keeper
from gateway.providers.dialect import Dialect, Timeouts
from gateway.providers.fields import useless_entry
from gateway.providers.hosts import host_of
from gateway.providers.http import HttpClient
from gateway.providers.limiter import Limiter
from gateway.providers.openai_compatible import AzureDialect, OpenAIDialect
from gateway.providers.resilience import Backoff, Clock, Resilience, Sleep
from gateway.providers.upstream import HttpProvider
from gateway.settings.config import ConfigurationError, ProviderSettings

USER_AGENT = "waypost"
MIN_SECRET_CHARS = 8
LEAST_PATIENCE_S = 15.0
"""For credentials: clouds' libraries look in several places, one after the other."""


def build_providers(
    settings: Mapping[str, ProviderSettings],
    http: HttpClient,
    *,
    long_work: LongWork | None = None,
    rng: random.Random | None = None,
    clock: Clock = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> dict[str, HttpProvider]:
    """Build one provider per table of `settings`; must be called inside a running event loop.

    `clock` is what `UpstreamCall.deadline_s` is on.

    Raises:
        ConfigurationError: A table lacks what its kind needs.
    """
    backoff = Backoff(rng or random.Random())  # noqa: S311 - spreads retries, guards nothing
    long_work = long_work or LongWork()
    return {
        name: _build(name, table, http, _resilience(name, table, backoff, clock, sleep), long_work)
        for name, table in settings.items()
    }


def _build(
    name: str,
    table: ProviderSettings,
    http: HttpClient,
    resilience: Resilience,
    long_work: LongWork,
) -> HttpProvider:
    useless = useless_entry(table.extra_fields)
    if useless is not None:
        raise ConfigurationError(
            f"providers.{name}.extra_fields: {useless!r} admits nothing; write the name of a "
            "field, or reasoning.NAME, thinking.NAME or tools.TYPE for a part of one"
        )
    key = table.api_key.get_secret_value() if table.api_key else None
    extra = {title.lower(): value.get_secret_value() for title, value in table.headers.items()}
    return HttpProvider(
        name=name,
        http=http,
        dialect=_dialect(name, table),
        headers=_COMMON_HEADERS | _credentials(table, key) | extra,
        timeouts=Timeouts(
            connect_s=table.connect_timeout_s,
            first_byte_s=table.first_byte_timeout_s,
            idle_s=table.idle_timeout_s,
            deadline_s=table.deadline_s,
        ),
        resilience=resilience,
        own_secrets=tuple(
            text for text in (key, *extra.values(), table.base_url) if text and _is_secret(text)
        ),
        long_work=long_work,
        keeper=_keeper(name, table, resilience.clock),
    )


def _keeper(name: str, table: ProviderSettings, clock: Clock) -> Keeper | None:
    if table.auth is None:
        return None
    fetch = fetcher(name, table.base_url, table.auth)
    return Keeper(name, fetch, max(table.connect_timeout_s, LEAST_PATIENCE_S), clock)


def _is_secret(text: str) -> bool:
    """Whether `text` is long enough to be one: cutting out "1" or "true" would garble errors."""
    return len(text) >= MIN_SECRET_CHARS


def _resilience(
    name: str, table: ProviderSettings, backoff: Backoff, clock: Clock, sleep: Sleep
) -> Resilience:
    return Resilience(
        provider=name,
        max_retries=table.max_retries,
        breaker_failures=table.breaker_failures,
        breaker_cooldown_s=table.breaker_cooldown_s,
        limiter=Limiter(name, table.max_concurrency, wait_s=table.queue_timeout_s),
        backoff=backoff,
        clock=clock,
        sleep=sleep,
    )


_COMMON_HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "accept-encoding": "identity",
    "user-agent": USER_AGENT,
}


_OF_CLAUDE: Mapping[str, type[AnthropicDialect]] = {
    "anthropic": AnthropicDialect,
    "anthropic-bedrock": BedrockDialect,
    "anthropic-vertex": VertexDialect,
}


def _dialect(name: str, table: ProviderSettings) -> Dialect:
    host = host_of(table.api, table.base_url, table.catalogue)
    if table.responses is not None:
        host = replace(host, speaks_responses=table.responses)
    if table.kind == "azure":
        if not table.api_version:
            raise ConfigurationError(
                f'providers.{name}.api_version: required for kind = "azure", such as "2024-10-21"'
            )
        return AzureDialect(name, table.base_url, host, table.api_version)
    of_claude = _OF_CLAUDE.get(table.kind)
    if of_claude is not None:
        return of_claude(name, table.base_url)
    return OpenAIDialect(name, table.base_url, host)


def _credentials(table: ProviderSettings, key: str | None) -> dict[str, str]:
    version = {"anthropic-version": API_VERSION} if table.kind == "anthropic" else {}
    if key is None:
        return version
    if table.kind == "anthropic" and not is_at_aws(table.base_url):
        return version | {"x-api-key": key}
    if table.kind == "azure":
        return {"api-key": key}
    return version | {"authorization": f"Bearer {key}"}
