"""Finds providers and models where there is no configuration, from the operator's environment.

Only the environment of the gateway's own process counts: callers can never name an upstream.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import SecretStr

from gateway.pool.kinds import WITH_OUTPUT, kind_of
from gateway.pool.prices import catalogue_entry, catalogue_of
from gateway.providers.exchange import HttpFailure
from gateway.providers.http import HttpClient
from gateway.settings.base import environment_value
from gateway.settings.config import (
    CapabilitySettings,
    ConfigurationError,
    ModelSettings,
    ProviderSettings,
)
from gateway.settings.prices import PriceSettings

OLLAMA_URL = "http://127.0.0.1:11434"
OLLAMA_TIMEOUT_S = 0.2
NAMED_TIMEOUT_S = 2.0
MAX_LISTING_BYTES = 4 * 1024 * 1024
MAX_LISTED_MODELS = 50

NOMINAL_USD_PER_MTOK_PER_BILLION = 0.02
"""Price of a local model by size: what hosts of open models of 8 to 10 billion parameters charge
(0.17 to 0.25 USD per million tokens in genai-prices 0.2.3), and more than the largest cost."""
NOMINAL_BILLIONS = 10.0
"""Size assumed where a server does not tell."""

HOSTED_MODELS: Mapping[str, tuple[str, ...]] = {
    "openai": ("gpt-6-luna", "gpt-6.1-terra", "gpt-6.1-sol", "text-embedding-3-small"),
    "anthropic": ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"),
    "openrouter": (
        "qwen/qwen3.8-flash",
        "z-ai/glm-5.3-flash",
        "deepseek/deepseek-v4.1-flash",
        "google/gemini-3.8-flash",
        "anthropic/claude-sonnet-5.5",
        "openai/gpt-6.1-sol",
    ),
    "together": (
        "openai/gpt-oss-120b",
        "Qwen/Qwen3.8-Flash",
        "deepseek-ai/DeepSeek-V4.1-Flash",
        "zai-org/GLM-5.3",
    ),
}
"""Few, current, and from cheap to strong; those the catalogue has no price for are left out."""

_HOSTED = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "openrouter": ("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1"),
    "together": ("TOGETHER_API_KEY", "TOGETHER_BASE_URL", "https://api.together.xyz/v1"),
}
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_AZURE_API_VERSION = "2024-10-21"
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(b|m)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Discovered:
    """Tables as the configuration file would hold them, and what the operator should know."""

    providers: Mapping[str, ProviderSettings]
    models: Mapping[str, ModelSettings]
    notes: tuple[str, ...] = ()


async def discover(
    environ: Mapping[str, str], http: HttpClient, now: datetime | None = None
) -> Discovered:
    """Look for hosted providers by their keys and for local servers by asking them.

    Asks at most Ollama's default address and addresses that `environ` names; takes
    `NAMED_TIMEOUT_S` at most.

    Raises:
        ConfigurationError: `environ` names an address that is not one.
    """
    now = now or datetime.now(UTC)
    found = [_hosted(name, environ, now) for name in _HOSTED if _is_official(name, environ)]
    found.append(_azure(environ, now))
    asked = [_ollama(environ, http), _vllm(environ, http)]
    asked += [
        _custom(name, environ, http, now)
        for name in _HOSTED
        if environ.get(_HOSTED[name][0]) and not _is_official(name, environ)
    ]
    found += await asyncio.gather(*asked)
    return _merged(found)


def nominal_price(billions: float) -> PriceSettings:
    """Set a price on a local model of so many parameters, so that routing can weigh it."""
    usd = max(round(billions * NOMINAL_USD_PER_MTOK_PER_BILLION, 4), 0.0001)
    return PriceSettings(input_usd_per_mtok=usd, output_usd_per_mtok=usd)


def _is_priced(catalogue: str, model: str, now: datetime) -> bool:
    """Whether the catalogue has a price for what `model`, by its name, is asked for."""
    has_output = kind_of(model) in WITH_OUTPUT
    return catalogue_entry(catalogue, model, now, has_output=has_output) is not None


def _kind(name: str) -> Literal["openai", "anthropic"]:
    return "anthropic" if name == "anthropic" else "openai"


def _is_official(name: str, environ: Mapping[str, str]) -> bool:
    key, address, official = _HOSTED[name]
    return bool(environ.get(key)) and (environ.get(address) or official).rstrip("/") == official


def _hosted(name: str, environ: Mapping[str, str], now: datetime) -> Discovered:
    key, _, official = _HOSTED[name]
    provider = ProviderSettings(
        kind=_kind(name), base_url=official, api_key=SecretStr(environment_value(environ, key))
    )
    names = [model for model in HOSTED_MODELS[name] if _is_priced(name, model, now)]
    models = {model: ModelSettings(provider=name) for model in names}
    note = f"{key}: provider {name!r} with {_listed(names)}"
    return Discovered({name: provider}, models, (note,))


def _azure(environ: Mapping[str, str], now: datetime) -> Discovered:
    """Azure cannot be asked for its deployments with the key of a resource."""
    endpoint = environ.get("AZURE_OPENAI_ENDPOINT")
    names = ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_KEY")
    name = next((name for name in names if environ.get(name)), None)
    if not endpoint or name is None:
        return Discovered({}, {})
    provider = ProviderSettings(
        kind="azure",
        base_url=_address("AZURE_OPENAI_ENDPOINT", endpoint),
        api_key=SecretStr(environment_value(environ, name)),
        api_version=environ.get("AZURE_OPENAI_API_VERSION") or _AZURE_API_VERSION,
    )
    deployment = environ.get("AZURE_OPENAI_DEPLOYMENT")
    if deployment and _is_priced("azure", deployment, now):
        models = {deployment: ModelSettings(provider="azure")}
        note = f"AZURE_OPENAI_ENDPOINT: provider 'azure' with {deployment}"
        return Discovered({"azure": provider}, models, (note,))
    reason = f"the catalogue has no price for {deployment!r}" if deployment else "none is named"
    note = (
        f"AZURE_OPENAI_ENDPOINT: provider 'azure' without models ({reason}); set"
        " AZURE_OPENAI_DEPLOYMENT, or write a [models.NAME] table with"
        ' provider = "azure" and upstream_name = the deployment'
    )
    return Discovered({"azure": provider}, {}, (note,))


async def _ollama(environ: Mapping[str, str], http: HttpClient) -> Discovered:
    named = environ.get("OLLAMA_HOST")
    base = _ollama_address(named) if named else OLLAMA_URL
    listing = await _listing(http, f"{base}/api/tags", OLLAMA_TIMEOUT_S, {})
    if listing is None:
        lost = (f"OLLAMA_HOST: no Ollama answers at {base}",) if named else ()
        return Discovered({}, {}, lost)
    entries = [item for item in _objects(listing, "models") if item.get("name")]
    models = {
        str(item["name"]): _local_model("ollama", str(item["name"]), _ollama_size(item), None)
        for item in entries
    }
    return _local("ollama", ProviderSettings(base_url=f"{base}/v1"), models)


async def _vllm(environ: Mapping[str, str], http: HttpClient) -> Discovered:
    named = environ.get("VLLM_BASE_URL")
    if not named:
        return Discovered({}, {})
    base = _address("VLLM_BASE_URL", named)
    if not urlsplit(base).path:
        base += "/v1"
    key = environ.get("VLLM_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    listing = await _listing(http, f"{base}/models", NAMED_TIMEOUT_S, headers)
    if listing is None:
        lost = f"VLLM_BASE_URL: no model list at {base}/models"
        return Discovered({}, {}, (lost,))
    models = {
        str(item["id"]): _local_model("vllm", str(item["id"]), None, item.get("max_model_len"))
        for item in _objects(listing, "data")
        if item.get("id")
    }
    provider = ProviderSettings(base_url=base, api_key=SecretStr(key) if key else None)
    return _local("vllm", provider, models)


async def _custom(
    name: str, environ: Mapping[str, str], http: HttpClient, now: datetime
) -> Discovered:
    """Ask a server of the operator's own for its models.

    Those of a server elsewhere need a known price; those of this machine get a nominal one.
    """
    key_name, address_name, _ = _HOSTED[name]
    base = _address(address_name, environ[address_name])
    key = environment_value(environ, key_name)
    kind = _kind(name)
    provider = ProviderSettings(
        kind=kind,
        base_url=base,
        api_key=SecretStr(key),
        catalogue=catalogue_of("", base) or name,
    )
    url = f"{base.removesuffix('/v1')}/v1/models" if kind == "anthropic" else f"{base}/models"
    headers = {"authorization": f"Bearer {key}", "x-api-key": key}
    listing = await _listing(http, url, NAMED_TIMEOUT_S, headers)
    if listing is None:
        lost = f"{address_name}: no model list at {url}"
        return Discovered({}, {}, (lost,))
    names = [str(item["id"]) for item in _objects(listing, "data") if item.get("id")]
    if urlsplit(base).hostname in _THIS_MACHINE:
        return _local(name, provider, {m: _local_model(name, m, None, None) for m in names})
    priced = [m for m in names if _is_priced(provider.catalogue or name, m, now)]
    models = {m: ModelSettings(provider=name) for m in priced[:MAX_LISTED_MODELS]}
    left_out = len(names) - len(models)
    note = f"{address_name}: provider {name!r} with {_listed(models)}"
    if left_out:
        note += (
            f"; {left_out} more left out: write a [models.NAME] table with a price"
            " for those you want"
        )
    return Discovered({name: provider}, models, (note,))


def _local(
    name: str, provider: ProviderSettings, models: Mapping[str, ModelSettings]
) -> Discovered:
    notes = [f"{provider.base_url}: provider {name!r} with {_listed(models)}"]
    for model, table in models.items():
        usd = table.price.input_usd_per_mtok if table.price else 0.0
        notes.append(
            f"{model}: priced at a nominal {usd:g} USD per million tokens; what it really costs"
            f' belongs under [models."{model}".price]'
        )
    return Discovered({name: provider}, models, tuple(notes))


def _local_model(
    provider: str, name: str, billions: float | None, context_tokens: object
) -> ModelSettings:
    size = billions or size_in_name(name) or NOMINAL_BILLIONS
    length = context_tokens if isinstance(context_tokens, int) and context_tokens > 0 else None
    capabilities = CapabilitySettings(context_tokens=length)
    return ModelSettings(provider=provider, price=nominal_price(size), capabilities=capabilities)


def size_in_name(name: str) -> float | None:
    """Read billions of parameters out of a name such as ``llama3.1:8b`` or ``Qwen3-0.6B``."""
    found = _SIZE.search(name.replace("-", " ").replace(":", " ").replace("_", " "))
    if found is None:
        return None
    return float(found[1]) / (1000.0 if found[2].lower() == "m" else 1.0)


def _ollama_size(item: Mapping[str, Any]) -> float | None:
    details = item.get("details")
    size = details.get("parameter_size") if isinstance(details, Mapping) else None
    return size_in_name(size) if isinstance(size, str) else None


def _ollama_address(named: str) -> str:
    """Read OLLAMA_HOST as Ollama does: scheme and port may be missing, 0.0.0.0 means here."""
    with_scheme = named if "://" in named else f"http://{named}"
    base = _address("OLLAMA_HOST", with_scheme.replace("//0.0.0.0", "//127.0.0.1"))
    parts = urlsplit(base)
    is_bare = parts.port is None and parts.scheme == "http"
    return base.replace(parts.netloc, f"{parts.netloc}:11434", 1) if is_bare else base


def _address(name: str, value: str) -> str:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigurationError(f"{name}: {value!r} is not an http or https URL")
    return value.rstrip("/")


async def _listing(
    http: HttpClient, url: str, timeout_s: float, headers: Mapping[str, str]
) -> object | None:
    try:
        response = await http.request(
            "GET",
            url,
            headers={"accept": "application/json", **headers},
            body=None,
            connect_timeout_s=timeout_s,
            timeout_s=timeout_s,
        )
        try:
            raw = await response.read(MAX_LISTING_BYTES, timeout_s)
        finally:
            response.close()
        return orjson.loads(raw) if response.status == 200 else None
    except (HttpFailure, orjson.JSONDecodeError):
        return None


def _objects(listing: object, name: str) -> list[Mapping[str, Any]]:
    items = listing.get(name) if isinstance(listing, Mapping) else None
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no models"


def _merged(parts: Iterable[Discovered]) -> Discovered:
    """Join what was found; of two models of one name the later takes its provider's as prefix."""
    providers: dict[str, ProviderSettings] = {}
    models: dict[str, ModelSettings] = {}
    notes: list[str] = []
    for part in parts:
        providers |= part.providers
        notes += part.notes
        for name, model in part.models.items():
            if name in models:
                upstream = model.upstream_name or name
                models[f"{model.provider}/{name}"] = model.model_copy(
                    update={"upstream_name": upstream}
                )
            else:
                models[name] = model
    return Discovered(providers, models, tuple(notes))
