"""Builds the providers that the settings name."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import replace

from gateway.long_work import LongWork
from gateway.providers.anthropic import API_VERSION, AnthropicDialect
from gateway.providers.dialect import Dialect, Timeouts
from gateway.providers.fields import useless_entry
from gateway.providers.hosts import host_of
from gateway.providers.http import HttpClient
from gateway.providers.openai_compatible import AzureDialect, OpenAIDialect
from gateway.providers.resilience import Backoff, Clock, Limiter, Resilience, Sleep
from gateway.providers.upstream import HttpProvider
from gateway.settings.config import ConfigurationError, ProviderSettings

USER_AGENT = "waypost"
MIN_SECRET_CHARS = 8


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
        secrets=tuple(
            text for text in (key, *extra.values(), table.base_url) if text and _is_secret(text)
        ),
        long_work=long_work,
    )


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
        limiter=Limiter(name, table.max_concurrency, wait_s=table.connect_timeout_s),
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


def _dialect(name: str, table: ProviderSettings) -> Dialect:
    host = host_of(table.kind, table.base_url, table.catalogue)
    if table.responses is not None:
        host = replace(host, speaks_responses=table.responses)
    if table.kind == "azure":
        if not table.api_version:
            raise ConfigurationError(
                f'providers.{name}.api_version: required for kind = "azure", such as "2024-10-21"'
            )
        return AzureDialect(name, table.base_url, host, table.api_version)
    if table.kind == "anthropic":
        return AnthropicDialect(name, table.base_url)
    return OpenAIDialect(name, table.base_url, host)


def _credentials(table: ProviderSettings, key: str | None) -> dict[str, str]:
    if table.kind == "anthropic":
        version = {"anthropic-version": API_VERSION}
        return version if key is None else version | {"x-api-key": key}
    if key is None:
        return {}
    if table.kind == "azure":
        return {"api-key": key}
    return {"authorization": f"Bearer {key}"}
