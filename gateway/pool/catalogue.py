"""Makes the models the gateway serves out of settings, what was discovered, and known facts."""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from gateway.deployments import joined
from gateway.pool.discovery import Discovered
from gateway.pool.kinds import WITH_OUTPUT, kind_of
from gateway.pool.prices import CatalogueEntry, catalogue_entry, catalogue_of, price_of
from gateway.providers.fields import admitted_fields
from gateway.providers.hosts import host_of
from gateway.providers.lacks import lacks_of
from gateway.settings.config import (
    CapabilitySettings,
    ConfigurationError,
    GatewaySettings,
    ModelSettings,
    ProviderSettings,
)
from gateway.types import Capabilities, Deployment, HostedModel

# Conservative: a model not named here is not sent images unless its settings say so.
_SEES = re.compile(
    r"gpt-4o(?!-audio)|gpt-4\.[15]|gpt-4-(turbo|vision)|chatgpt-4o|gpt-[5-9](?!\d)|"
    r"(^|/)o1(?!-(mini|preview))|(^|/)o3(?!-mini)|(^|/)o4|"
    r"claude-(3|opus|sonnet|haiku|fable|mythos)|gemini|pixtral|llama-?4|llava|gemma-?3(?!n)|"
    r"vision|[-_.](vl|omni)\b|qwen[\d.]*-?vl|mistral-(medium|small)-3",
    re.IGNORECASE,
)
_TAKES_NO_TOOLS = re.compile(
    r"(^|/)o1-(mini|preview)|gpt-3\.5-turbo-instruct|deepseek-r1|phi-?[23]|gemma-?[123](?!\d)|"
    r"llava|smollm|tinyllama|llama-?2|search-preview|-base$|claude-(v1|2)",
    re.IGNORECASE,
)
_TAKES_NO_SCHEMA = re.compile(
    r"gpt-3\.5|gpt-4(?![.o\d])|gpt-4-|o1-(mini|preview)|claude-(v1|2|3)|"
    r"claude-(opus|sonnet)-4-[01](?!\d)|llama-?2",
    re.IGNORECASE,
)
# All of these take the efforts low, medium and high.
_TAKES_EFFORT = re.compile(
    r"(^|/)(o1(?!-(mini|preview))|o[34]|gpt-5(?!.*(chat|pro)))", re.IGNORECASE
)


def build_models(
    settings: GatewaySettings, discovered: Discovered | None = None, now: datetime | None = None
) -> dict[str, HostedModel]:
    """Build each model configured or discovered, priced and with what it can take.

    The settings win where both name a model. Prices are read as of `now`, the present by default.

    Raises:
        ConfigurationError: A model's price is unknown, or its provider is not there.
    """
    models: Mapping[str, ModelSettings] = settings.models
    providers: Mapping[str, ProviderSettings] = settings.providers
    if discovered is not None:
        models = {**discovered.models, **models}
        providers = {**discovered.providers, **providers}
    moment = now or datetime.now(UTC)
    return {name: _deployed(name, table, providers, moment) for name, table in models.items()}


def capabilities_of(
    upstream_name: str, known: CapabilitySettings, entry: CatalogueEntry | None
) -> Capabilities:
    """Judge by name what a model takes; `known` has the last word."""
    takes_tools = not _TAKES_NO_TOOLS.search(upstream_name)
    sees = bool(_SEES.search(upstream_name))
    takes_schema = not _TAKES_NO_SCHEMA.search(upstream_name)
    default_context = entry.context_tokens if entry else None
    return Capabilities(
        tools=known.tools if known.tools is not None else takes_tools,
        vision=known.vision if known.vision is not None else sees,
        json_schema=known.json_schema if known.json_schema is not None else takes_schema,
        context_tokens=known.context_tokens or default_context,
        max_output_tokens=known.max_output_tokens,
        reasoning=_reasoning(upstream_name, known),
    )


def _reasoning(
    upstream_name: str, known: CapabilitySettings
) -> Literal["effort", "thinking"] | None:
    if known.reasoning is None:
        return "effort" if _TAKES_EFFORT.search(upstream_name) else None
    return None if known.reasoning == "none" else known.reasoning


def _deployed(
    name: str, table: ModelSettings, providers: Mapping[str, ProviderSettings], now: datetime
) -> HostedModel:
    """Build a model, at each place where it is deployed."""
    if not table.deployments:
        return _model(name, table, providers, now)
    deployments = []
    for one in table.deployments:
        there = table.model_copy(
            update={
                "provider": one.provider,
                "upstream_name": one.upstream_name or table.upstream_name,
                "price": one.price or table.price,
            }
        )
        model = _model(name, there, providers, now)
        deployments.append(Deployment(model, one.weight, one.priority))
    twice = [place for place, n in Counter(d.model.place for d in deployments).items() if n > 1]
    if twice:
        raise ConfigurationError(
            f"models.{name}.deployments: {'/'.join(twice[0])} is there twice; give one a weight "
            "for both, or another provider table"
        )
    if len({one.model.kind for one in deployments}) > 1:
        raise ConfigurationError(
            f"models.{name}.deployments: they are of different kinds; say `kind` for the model"
        )
    return joined(deployments)


def _model(
    name: str, table: ModelSettings, providers: Mapping[str, ProviderSettings], now: datetime
) -> HostedModel:
    provider = providers.get(table.provider)
    if provider is None:
        raise ConfigurationError(
            f"models.{name}.provider: there is no [providers.{table.provider}] table"
        )
    upstream_name = table.upstream_name or name
    kind = table.kind or kind_of(upstream_name)
    if kind != "chat" and provider.api == "anthropic":
        raise ConfigurationError(
            f"models.{name}.kind: a provider of the kind {provider.kind!r} has no endpoint for "
            f"{kind}"
        )
    has_output = kind in WITH_OUTPUT
    catalogue, entry = None, None
    if table.price is None or table.capabilities.context_tokens is None:
        catalogue = provider.catalogue or catalogue_of(table.provider, provider.base_url)
        if catalogue:
            entry = catalogue_entry(catalogue, upstream_name, now, has_output=has_output)
    return HostedModel(
        name=name,
        provider=table.provider,
        upstream_name=upstream_name,
        price=price_of(
            catalogue, upstream_name, table.price, table=name, now=now, has_output=has_output
        ),
        capabilities=capabilities_of(upstream_name, table.capabilities, entry),
        system_prompt=table.system_prompt,
        request_defaults=table.request_defaults,
        fields=admitted_fields(provider.api, provider.extra_fields),
        lacks=lacks_of(
            provider.api,
            host_of(provider.api, provider.base_url, provider.catalogue),
            upstream_name,
        ),
        kind=kind,
        attributes=frozenset((*provider.attributes, *table.attributes)),
        fallbacks=table.fallbacks,
    )
