"""The endpoints of models that do not chat, as a table: embeddings, text completions, reranking.

https://platform.openai.com/docs/api-reference/embeddings,
https://platform.openai.com/docs/api-reference/completions, https://docs.cohere.com/reference/rerank,
https://api.jina.ai/redoc, https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from budget.ledger.amounts import TOKENS_PER_MTOK
from gateway.budgets.base import BoundPrompt
from gateway.budgets.worst_case import MAX_TOKENS, WorstCase, added_tokens
from gateway.deployments import within
from gateway.errors import InvalidRequest, ModelNotFound
from gateway.exact_json import dumps
from gateway.forwarding.call import Call, Charged, scopes_of, worst_of
from gateway.long_work import LongWork
from gateway.providers.fields import asked_fields, is_admitted, refusal
from gateway.providers.openai_compatible import fill_defaults
from gateway.providers.usage import count_of, object_of, usage_of
from gateway.settings.config import ProfileSettings
from gateway.types import Caller, Doubt, HostedModel, ModelKind, Usage
from gateway.wire import OWN_FIELD, decoded_body

AUTO: Final = "auto"
LEGACY_MAX_TOKENS: Final = 16
"""OpenAI's output limit of a text completion that names none."""
MOST_CHOICES: Final = 4096
"""Of one request: its prompts times the completions of each."""
DOCUMENTS_PER_UNIT: Final = 100
TOKENS_PER_PART: Final = 500
"""Cohere cuts longer documents into parts, and counts each as a document."""
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class ModelTariff:
    """Tokens and search units at the price of a model.

    Attributes:
        units: The most search units.
    """

    model: HostedModel
    need: WorstCase
    units: int = 0
    is_read: bool = True

    def of_answer(self, answer: Any) -> Charged:
        """Charge what a whole answer reports."""
        said = answer if isinstance(answer, dict) else {}
        billed = object_of(object_of(said, "meta"), "billed_units")
        units = min(count_of(billed, "search_units") or self.units, self.units)
        usage = usage_of(said.get("usage")) or usage_of({"prompt_tokens": _tokens_in(said, billed)})
        if usage is None and self.units and self.model.price.search_unit_nusd:
            usage = Usage(0, 0)  # charged by units alone
        charged = self._charged(usage, units)
        if usage is None:
            return replace(charged, usage=replace(charged.usage, doubt="missing"))
        return charged

    def of_usage(self, usage: Usage | None) -> Charged:
        """Charge what a stream used."""
        return self._charged(usage, self.units)

    def _charged(self, reported: Usage | None, units: int) -> Charged:
        need = self.need
        most = need.most_completion_tokens
        usage = reported
        if usage is None:
            usage = Usage(need.prompt_tokens, most, is_estimated=True)
        elif usage.prompt_tokens > need.prompt_tokens or usage.completion_tokens > most:
            prompt = min(usage.prompt_tokens, need.prompt_tokens)
            doubt: Doubt | None = None if usage.is_estimated else "too_many"
            completion = min(usage.completion_tokens, most)
            usage = Usage(prompt, completion, is_estimated=True, doubt=doubt)
        nusd = self.model.price.cost_nusd(usage) + units * self.model.price.search_unit_nusd
        return Charged(min(nusd, need.cost_nusd(most)), usage)


@dataclass(frozen=True, slots=True)
class ModelEndpoint:
    """One endpoint.

    Attributes:
        operation: OpenTelemetry's name of it, where there is one.
        kinds: Of models that may be named.
        own_kind: Of models that `auto` may stand for.
        fields: That callers may send beside those of a chat.
        complete: Checks a body and fills in what the bound rests on.
        choices: How many answers a body has written; None where nothing is.
        documents: What the query is read with, each time anew; None where there is no query.
        streams: It may be asked for a stream.
    """

    path: str
    operation: str
    kinds: frozenset[ModelKind]
    own_kind: ModelKind
    fields: frozenset[str]
    complete: Callable[[dict[str, Any]], None]
    choices: Callable[[Mapping[str, Any]], int] | None = None
    documents: Callable[[Mapping[str, Any]], Sequence[Any]] | None = None
    streams: bool = False


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """Makes calls of models.

    Attributes:
        chat_models: By name; they come and go. `other_models` are of other kinds.
        kinds: Of the providers, by name.
    """

    chat_models: Mapping[str, HostedModel]
    other_models: Mapping[str, HostedModel]
    profiles: Mapping[str, ProfileSettings]
    default_profile: str
    kinds: Mapping[str, str]
    bound_prompt: BoundPrompt
    long_work: LongWork

    async def prepare(
        self,
        endpoint: ModelEndpoint,
        raw: bytes,
        headers: Mapping[bytes, bytes],
        caller: Caller,
        named: str | None = None,
    ) -> Call:
        """Check a request, and bound what it may cost.

        Args:
            named: The model, where the path names it and not the body.

        Raises:
            InvalidRequest: It is malformed, or asks for what may change its price.
            ModelNotFound: The key may use no such model.
        """
        body = await self.long_work.read(len(raw), decoded_body, raw)
        name = named or body.get("model")
        if not isinstance(name, str) or not name:
            raise InvalidRequest("`model` must be the name of a model.", param="model")
        scopes = scopes_of(name, body, headers)
        body.pop(OWN_FIELD, None)
        model = within(self._find(endpoint, name, caller), caller.requires)
        if model.fields is not None:
            model = replace(model, fields=model.fields | endpoint.fields)
        if not is_admitted(asked_fields(body), model.fields):
            raise refusal(body, (model,))
        fill_defaults(body, model.request_defaults)
        endpoint.complete(body)
        is_stream, takes_usage = _as_stream(body, can_stream=endpoint.streams)
        body["model"] = model.upstream_name
        return Call(
            operation=endpoint.operation,
            name=model.name,
            provider=model.provider,
            upstream_name=model.upstream_name,
            method="POST",
            path=endpoint.path,
            body=await self.long_work.read(len(raw), dumps, body),
            content_type=JSON,
            tariff=await self._tariff(endpoint, body, model, caller.team_id),
            scopes=scopes,
            form="events" if is_stream else "json",
            n_choices=1 if endpoint.choices is None else endpoint.choices(body),
            takes_usage=takes_usage,
        )

    def _find(self, endpoint: ModelEndpoint, name: str, caller: Caller) -> HostedModel:
        if name == AUTO or name in self.profiles:
            return self._only(endpoint, name, caller)
        model = self.other_models.get(name) or self.chat_models.get(name)
        if model is None or not caller.may_use(model):
            raise ModelNotFound(
                f"No model {name!r} is served to this key; GET /v1/models lists them.",
                param="model",
            )
        if model.kind not in endpoint.kinds or self.kinds[model.provider] == "anthropic":
            raise InvalidRequest(
                f"The model {name!r} does not serve /v1{endpoint.path}: it is a model for "
                f"{model.kind}.",
                param="model",
            )
        return model

    def _only(self, endpoint: ModelEndpoint, name: str, caller: Caller) -> HostedModel:
        """Return the only model that `auto` or a profile can stand for.

        Vectors and scores of different models cannot be compared, so there is nothing to route.
        """
        profile = name
        if name == AUTO:
            is_known = caller.profile in self.profiles
            profile = caller.profile if is_known and caller.profile else self.default_profile
        admitted = self.profiles[profile].models
        found = [
            model
            for model in self.other_models.values()
            if model.kind == endpoint.own_kind
            and caller.may_use(model)
            and (admitted is None or model.name in admitted)
        ]
        if len(found) == 1:
            return found[0]
        known = ", ".join(sorted(model.name for model in found)) or "none"
        raise InvalidRequest(
            f"`model` must name one model for {endpoint.own_kind}, not {name!r}: what different "
            f"models answer here cannot be mixed. This key and profile admit: {known}.",
            param="model",
        )

    async def _tariff(
        self, endpoint: ModelEndpoint, body: Mapping[str, Any], model: HostedModel, team_id: str
    ) -> ModelTariff:
        tokens = await self.bound_prompt(body, (model,), team_id) + added_tokens(model)
        units = 0
        if endpoint.documents is not None:
            documents = endpoint.documents(body)
            query = await self.bound_prompt({"input": [body["query"]]}, (model,), team_id)
            tokens += query * len(documents)
            units = _search_units(tokens, len(documents))
        tokens = min(tokens, MAX_TOKENS)
        prices = model.price.up_to(tokens)
        dearest = max(max(p.input_nusd_per_mtok, *p.cache_nusd_per_mtok) for p in prices)
        paid = -(-tokens * dearest // TOKENS_PER_MTOK) + units * model.price.search_unit_nusd
        need = worst_of(paid, tokens)
        if endpoint.choices is not None:
            most = min(endpoint.choices(body) * body["max_tokens"], MAX_TOKENS)
            need = replace(
                need,
                completion_nusd_per_mtok=max(price.output_nusd_per_mtok for price in prices),
                least_completion_tokens=most,
                most_completion_tokens=most,
            )
        return ModelTariff(model, need, units)


def _as_stream(body: dict[str, Any], *, can_stream: bool) -> tuple[bool, bool]:
    """Have a stream tell its use; return whether it is one, and whether its caller wants that."""
    options = object_of(body, "stream_options")
    body.pop("stream_options", None)
    if not (can_stream and body.get("stream")):
        body.pop("stream", None)
        return False, False
    body["stream_options"] = {**options, "include_usage": True}
    return True, options.get("include_usage") is True


def _complete_embeddings(body: dict[str, Any]) -> None:
    if not body.get("input"):
        raise InvalidRequest("`input` must be a text, tokens, or a list of them.", param="input")


def _complete_text(body: dict[str, Any]) -> None:
    """Name the output limit that counts, and check what multiplies it."""
    for name in ("n", "best_of", "max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is not None and (type(value) is not int or not 0 < value <= MAX_TOKENS):
            raise InvalidRequest(f"`{name}` must be a whole number above 0.", param=name)
    other = body.pop("max_completion_tokens", None)
    if body.get("max_tokens") is None:
        body["max_tokens"] = other or LEGACY_MAX_TOKENS
    if body.get("stream") is not None and type(body["stream"]) is not bool:
        raise InvalidRequest("`stream` must be true or false.", param="stream")
    if text_choices(body) > MOST_CHOICES:
        raise InvalidRequest(f"At most {MOST_CHOICES} completions may be asked for.", param="n")


def text_choices(body: Mapping[str, Any]) -> int:
    """Count the completions that a body has written, for which it pays."""
    return _prompts(body) * max(body.get("n") or 1, body.get("best_of") or 1)


def _prompts(body: Mapping[str, Any]) -> int:
    prompt = body.get("prompt")
    is_tokens = isinstance(prompt, list) and all(type(token) is int for token in prompt)
    return max(len(prompt), 1) if isinstance(prompt, list) and not is_tokens else 1


def _complete_rerank(body: dict[str, Any]) -> None:
    if not isinstance(body.get("query"), str):
        raise InvalidRequest("`query` must be a text.", param="query")
    if not isinstance(body.get("documents"), list) or not body["documents"]:
        raise InvalidRequest("`documents` must be a list of at least one.", param="documents")


def _search_units(tokens: int, n_documents: int) -> int:
    """Bound the search units of a call whose query is read with each document."""
    return -(-(n_documents + tokens // TOKENS_PER_PART) // DOCUMENTS_PER_UNIT)


def _tokens_in(said: Mapping[str, Any], billed: Mapping[str, Any]) -> int:
    """Read how many tokens a host counted that puts nothing out: Jina's, vLLM's, Cohere's words."""
    usage, meta = object_of(said, "usage"), object_of(said, "meta")
    counted = count_of(usage, "total_tokens") or count_of(billed, "input_tokens")
    return counted or count_of(object_of(meta, "tokens"), "input_tokens")


MODEL_ENDPOINTS: Final = (
    ModelEndpoint(
        path="/embeddings",
        operation="embeddings",
        kinds=frozenset({"embeddings"}),
        own_kind="embeddings",
        fields=frozenset(
            {
                "add_special_tokens",
                "dimensions",
                "embedding_type",
                "embedding_types",
                "encoding_format",
                "input",
                "input_type",
                "instruction",
                "late_chunking",
                "normalized",
                "output_dimension",
                "output_dtype",
                "prompt_name",
                "task",
                "truncation",
            }
        ),
        complete=_complete_embeddings,
    ),
    ModelEndpoint(
        path="/completions",
        operation="text_completion",
        kinds=frozenset({"chat", "completions"}),
        own_kind="completions",
        fields=frozenset({"best_of", "echo", "prompt", "suffix"}),
        complete=_complete_text,
        choices=text_choices,
        streams=True,
    ),
    ModelEndpoint(
        path="/rerank",
        operation="rerank",
        kinds=frozenset({"rerank"}),
        own_kind="rerank",
        fields=frozenset(
            {
                "documents",
                "max_chunks_per_doc",
                "max_tokens_per_doc",
                "query",
                "rank_fields",
                "return_documents",
                "top_n",
                "truncation",
            }
        ),
        complete=_complete_rerank,
        documents=lambda body: body["documents"],
    ),
)
