from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.pool import discovery
from gateway.pool.catalogue import build_models
from gateway.pool.discovery import HOSTED_MODELS, Discovered, discover, nominal_price, size_in_name
from gateway.pool.kinds import WITH_OUTPUT, kind_of
from gateway.pool.prices import catalogue_entry
from gateway.providers.http import HttpClient
from gateway.settings.config import ConfigurationError, GatewaySettings
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import free_port, serve
from tests.fakes.upstream import Answer, ScriptedUpstream, json_answer

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient.open()
    yield client
    await client.aclose()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "OLLAMA_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(discovery, "NAMED_TIMEOUT_S", PATIENCE_S)


@pytest.fixture(autouse=True)
def no_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "OLLAMA_URL", f"http://127.0.0.1:{free_port()}")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server of a test pass for one on another machine."""
    monkeypatch.setattr(discovery, "_THIS_MACHINE", frozenset())


async def found(http: HttpClient, **environ: str) -> Discovered:
    return await discover(environ, http, NOW)


async def test_finds_nothing_in_an_empty_environment(http: HttpClient) -> None:
    assert await discover({}, http) == Discovered({}, {}, ())


@pytest.mark.parametrize("name", sorted(HOSTED_MODELS))
def test_the_catalogue_knows_every_hosted_default(name: str) -> None:
    def entry(model: str) -> object:
        return catalogue_entry(name, model, NOW, has_output=kind_of(model) in WITH_OUTPUT)

    assert [model for model in HOSTED_MODELS[name] if entry(model) is None] == []


@pytest.mark.parametrize(
    ("variable", "name", "kind"),
    [
        ("OPENAI_API_KEY", "openai", "openai"),
        ("ANTHROPIC_API_KEY", "anthropic", "anthropic"),
        ("OPENROUTER_API_KEY", "openrouter", "openai"),
        ("TOGETHER_API_KEY", "together", "openai"),
    ],
)
async def test_finds_a_hosted_provider_by_its_key(
    http: HttpClient, variable: str, name: str, kind: str
) -> None:
    result = await found(http, **{variable: "sk-1"})
    provider = result.providers[name]
    assert provider.kind == kind
    assert provider.api_key is not None
    assert provider.api_key.get_secret_value() == "sk-1"
    assert tuple(result.models) == HOSTED_MODELS[name]
    assert variable in result.notes[0]
    assert "sk-1" not in "".join(result.notes)
    models = build_models(GatewaySettings(data_dir=Path("data")), result, NOW)
    chatting = [model for model in models.values() if model.kind == "chat"]
    assert all(model.price.output_nusd_per_mtok > 0 for model in chatting)
    assert all(model.price.input_nusd_per_mtok > 0 for model in models.values())


async def test_the_official_address_may_be_named(http: HttpClient) -> None:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://api.openai.com/v1/"}
    result = await found(http, **environ)
    assert tuple(result.models) == HOSTED_MODELS["openai"]


async def test_finds_azure_with_its_deployment(http: HttpClient) -> None:
    environ = {
        "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/",
        "AZURE_OPENAI_API_KEY": "k",
        "AZURE_OPENAI_DEPLOYMENT": "gpt-4o",
    }
    result = await found(http, **environ)
    assert result.providers["azure"].kind == "azure"
    assert result.providers["azure"].base_url == "https://x.openai.azure.com"
    assert result.providers["azure"].api_version
    assert list(result.models) == ["gpt-4o"]


@pytest.mark.parametrize("deployment", ["", "our-own-name"])
async def test_azure_without_a_known_deployment_tells_what_to_write(
    http: HttpClient, deployment: str
) -> None:
    environ = {
        "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/",
        "AZURE_OPENAI_KEY": "k",
        "AZURE_OPENAI_DEPLOYMENT": deployment,
    }
    result = await found(http, **environ)
    assert result.models == {}
    assert "[models.NAME]" in result.notes[0]


async def ollama(http: HttpClient, tags: Any) -> tuple[Discovered, str]:
    upstream = ScriptedUpstream(json_answer(tags))
    async with serve(upstream) as url:
        result = await found(http, OLLAMA_HOST=url.removeprefix("http://"))
    assert upstream.last.path == "/api/tags"
    return result, url


async def test_finds_ollamas_models_at_a_nominal_price(http: HttpClient) -> None:
    tags = {
        "models": [
            {"name": "llama3.1:latest", "details": {"parameter_size": "8.0B"}},
            {"name": "smollm2:135m"},
            {"name": "mystery"},
            {"no": "name"},
            "junk",
        ]
    }
    result, url = await ollama(http, tags)
    assert result.providers["ollama"].base_url == f"{url}/v1"
    assert {name: m.price for name, m in result.models.items()} == {
        "llama3.1:latest": nominal_price(8),
        "smollm2:135m": nominal_price(0.135),
        "mystery": nominal_price(10),
    }
    assert all(m.price and m.price.input_usd_per_mtok > 0 for m in result.models.values())
    assert '[models."mystery".price]' in "".join(result.notes)


@pytest.mark.parametrize("tags", [[], {"models": None}, {"models": []}, "x"])
async def test_an_odd_list_is_an_empty_one(http: HttpClient, tags: Any) -> None:
    result, _ = await ollama(http, tags)
    assert result.models == {}


async def test_finds_a_running_ollama_without_being_told(
    http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(ScriptedUpstream(json_answer({"models": [{"name": "qwen3:4b"}]}))) as url:
        monkeypatch.setattr(discovery, "OLLAMA_URL", url)
        result = await found(http)
    assert list(result.models) == ["qwen3:4b"]


@pytest.mark.parametrize(
    "answer",
    [Answer((b"<html>",)), json_answer({}, status=500), Answer(stalls_at_once=True)],
)
async def test_says_when_a_named_ollama_does_not_answer(
    http: HttpClient, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "OLLAMA_TIMEOUT_S", 0.5)
    async with serve(ScriptedUpstream(answer)) as url:
        result = await found(http, OLLAMA_HOST=url)
    assert result.providers == {}
    assert "no Ollama answers" in result.notes[0]


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:99", "http://box:99"),
        ("http://box", "http://box:11434"),
        ("https://box/", "https://box"),
        ("http://box:99/ollama", "http://box:99/ollama"),
    ],
)
async def test_reads_ollamas_address_as_ollama_does(
    http: HttpClient, monkeypatch: pytest.MonkeyPatch, named: str, address: str
) -> None:
    asked: list[str] = []

    async def listing(_: HttpClient, url: str, *__: object) -> None:
        asked.append(url)

    monkeypatch.setattr(discovery, "_listing", listing)
    await found(http, OLLAMA_HOST=named)
    assert asked == [f"{address}/api/tags"]


async def test_finds_vllms_models_with_their_context(http: HttpClient) -> None:
    models = {"data": [{"id": "Qwen/Qwen3-8B", "max_model_len": 32768}, {"id": "x"}, {}]}
    upstream = ScriptedUpstream(json_answer(models))
    async with serve(upstream) as url:
        result = await found(http, VLLM_BASE_URL=url, VLLM_API_KEY="k")
    assert upstream.last.path == "/v1/models"
    assert upstream.last.headers["authorization"] == "Bearer k"
    assert result.providers["vllm"].base_url == f"{url}/v1"
    assert result.models["Qwen/Qwen3-8B"].capabilities.context_tokens == 32768
    assert result.models["x"].capabilities.context_tokens is None


async def test_takes_vllms_path_as_it_is_given(http: HttpClient) -> None:
    upstream = ScriptedUpstream(json_answer({"data": []}))
    async with serve(upstream) as url:
        result = await found(http, VLLM_BASE_URL=f"{url}/serve/v1/")
    assert upstream.last.path == "/serve/v1/models"
    assert "authorization" not in upstream.last.headers
    assert result.providers["vllm"].api_key is None


async def test_says_when_vllm_has_no_list(http: HttpClient) -> None:
    async with serve(ScriptedUpstream(json_answer({}, status=503))) as url:
        result = await found(http, VLLM_BASE_URL=url)
    assert result == Discovered({}, {}, (f"VLLM_BASE_URL: no model list at {url}/v1/models",))


async def test_says_when_vllm_is_not_there(http: HttpClient) -> None:
    result = await found(http, VLLM_BASE_URL=f"http://127.0.0.1:{free_port()}")
    assert "no model list" in result.notes[0]


async def custom(http: HttpClient, listing: Any, **environ: str) -> tuple[Discovered, str]:
    upstream = ScriptedUpstream(json_answer(listing))
    async with serve(upstream) as url:
        named = {name: value.replace("URL", url) for name, value in environ.items()}
        return await found(http, **named), upstream.last.path


async def test_models_of_this_machine_get_a_nominal_price(http: HttpClient) -> None:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "URL/v1"}
    result, _ = await custom(http, {"data": [{"id": "qwen3-4b"}]}, **environ)
    assert result.models["qwen3-4b"].price == nominal_price(4)
    assert result.providers["openai"].api_key is not None


@pytest.mark.usefixtures("elsewhere")
async def test_asks_an_address_of_the_operators_own_for_its_models(http: HttpClient) -> None:
    listing = {"data": [{"id": "gpt-4o-mini"}, {"id": "their-model"}]}
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "URL/v1"}
    result, path = await custom(http, listing, **environ)
    assert path == "/v1/models"
    assert list(result.models) == ["gpt-4o-mini"]
    assert "1 more left out" in result.notes[0]
    assert result.providers["openai"].catalogue == "openai"


@pytest.mark.usefixtures("elsewhere")
async def test_asks_anthropics_stand_in_on_its_own_path(http: HttpClient) -> None:
    listing = {"data": [{"id": "claude-haiku-4-5"}]}
    environ = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "URL"}
    result, path = await custom(http, listing, **environ)
    assert path == "/v1/models"
    assert list(result.models) == ["claude-haiku-4-5"]
    assert "left out" not in result.notes[0]


async def test_says_when_an_address_of_the_operators_own_has_no_list(http: HttpClient) -> None:
    async with serve(ScriptedUpstream(json_answer({}, status=404))) as url:
        result = await found(http, OPENAI_API_KEY="k", OPENAI_BASE_URL=url)
    assert result == Discovered({}, {}, (f"OPENAI_BASE_URL: no model list at {url}/models",))


@pytest.mark.parametrize("address", ["box", "ftp://box", "http://", "http://a:b:c", "http://a:x"])
async def test_refuses_an_address_that_is_none(http: HttpClient, address: str) -> None:
    with pytest.raises(ConfigurationError, match="VLLM_BASE_URL"):
        await found(http, VLLM_BASE_URL=address)


async def test_a_name_that_two_providers_host_is_told_apart(http: HttpClient) -> None:
    shared = {"data": [{"id": "gpt-6.1-sol"}]}
    async with serve(ScriptedUpstream(json_answer(shared))) as url:
        environ = {"OPENAI_API_KEY": "k", "VLLM_BASE_URL": url}
        result = await found(http, **environ)
    assert result.models["gpt-6.1-sol"].provider == "openai"
    second = result.models["vllm/gpt-6.1-sol"]
    assert second.provider == "vllm"
    assert second.upstream_name == "gpt-6.1-sol"


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama3.1:8b", 8.0),
        ("Qwen3-0.6B", 0.6),
        ("smollm2:135m", 0.135),
        ("meta-llama/Llama-3.1-70B-Instruct", 70.0),
        ("8.0B", 8.0),
        ("mixtral:8x7b", None),
        ("model-q4_k_m", None),
        ("mystery", None),
    ],
)
def test_reads_the_size_out_of_a_name(name: str, billions: float | None) -> None:
    assert size_in_name(name) == billions


def test_a_nominal_price_is_never_zero() -> None:
    assert nominal_price(0.0001).input_usd_per_mtok > 0


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_OPENAI_KEY"])
async def test_a_key_with_a_line_end_is_refused_by_the_variable_s_name(http: HttpClient, name):
    environ = {name: "sk-secret\n", "AZURE_OPENAI_ENDPOINT": "https://a.openai.azure.com"}
    with pytest.raises(ConfigurationError, match=name) as refused:
        await discover(environ, http)
    assert "sk-secret" not in str(refused.value)
