"""The nouns of serving: hosted models, prices, usage, callers and turns."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from budget.ledger.amounts import TOKENS_PER_MTOK
from gateway.candidate_records import NO_CANDIDATES, CandidateRecord, Candidates
from router_models.types import Float32

ANSWERED = "answered"
"""How a turn ended, in the journal; otherwise the class of what ended it, or:"""
CLIENT_LEFT = "ClientLeft"
ModelKind = Literal["chat", "completions", "embeddings", "rerank"]
"""What a model is asked for; those of the kind ``chat`` alone take turns of a conversation."""
Doubt = Literal["missing", "too_few", "few", "too_many"]
"""About what a provider reports of a complete answer: it counts nothing, fewer tokens than any
tokenizer makes of the answer, far fewer than is usual, or more than can be true or was held."""
Place = tuple[str, str]
"""Where a model is called: the provider, and what the provider calls the model."""
CARRIED = "waypost_carried"
"""In a message or tool of a request that came on another wire: what chat completions cannot say."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the provider reported them.

    Attributes:
        prompt_tokens: All input tokens, cached ones included (OpenAI's convention).
        completion_tokens: All output tokens, reasoning included.
        cached_tokens: Input tokens read from the provider's prompt cache.
        cache_write_tokens: Input tokens written to it.
        cache_write_1h_tokens: Those of them that it keeps for an hour, which costs more.
        reasoning_tokens: Output tokens the caller never sees.
        is_estimated: Counted by the gateway because the provider reported nothing.
        doubt: What is odd about the provider's report.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    is_estimated: bool = False
    cache_write_1h_tokens: int = 0
    doubt: "Doubt | None" = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Prices in nano-USD per million tokens, so that sums stay integers.

    Attributes:
        cached_input_nusd_per_mtok: None is the price of any other input.
        cache_write_nusd_per_mtok: None likewise.
        cache_write_1h_nusd_per_mtok: None is the price of any other cache write.
        tiers: What calls with longer prompts cost, shortest first. The whole call is charged at the
            last tier that its prompt is above, answer included.
        search_unit_nusd: What a rerank model charges for each search unit, beside its tokens.
    """

    input_nusd_per_mtok: int
    output_nusd_per_mtok: int
    cached_input_nusd_per_mtok: int | None = None
    cache_write_nusd_per_mtok: int | None = None
    cache_write_1h_nusd_per_mtok: int | None = None
    tiers: "tuple[PriceTier, ...]" = ()
    search_unit_nusd: int = 0

    def cost_nusd(self, usage: Usage) -> int:
        """Charge `usage` in nano-USD, rounded up: a call is never free by rounding."""
        price = self.up_to(usage.prompt_tokens)[-1]
        cached, write, write_1h = price.cache_nusd_per_mtok
        plain = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
        total = (
            max(plain, 0) * price.input_nusd_per_mtok
            + usage.cached_tokens * cached
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * write
            + usage.cache_write_1h_tokens * write_1h
            + usage.completion_tokens * price.output_nusd_per_mtok
        )
        return -(-total // TOKENS_PER_MTOK)

    def up_to(self, prompt_tokens: int) -> "list[ModelPrice]":
        """List the prices that calls with at most so many prompt tokens fall under."""
        reached = [tier.price for tier in self.tiers if prompt_tokens > tier.above_prompt_tokens]
        return [self, *reached]

    @property
    def cache_nusd_per_mtok(self) -> tuple[int, int, int]:
        """What input costs that is read from the cache, written to it, and written for an hour."""
        plain, cached = self.input_nusd_per_mtok, self.cached_input_nusd_per_mtok
        write, write_1h = self.cache_write_nusd_per_mtok, self.cache_write_1h_nusd_per_mtok
        write = plain if write is None else write
        return plain if cached is None else cached, write, write if write_1h is None else write_1h


@dataclass(frozen=True, slots=True)
class PriceTier:
    """What a call costs whose prompt has more tokens than `above_prompt_tokens`."""

    above_prompt_tokens: int
    price: ModelPrice


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a hosted model can take; None means unknown and is not filtered on.

    Attributes:
        reasoning: How the model is told to think more or less: ``effort`` is OpenAI's
            `reasoning_effort`, ``thinking`` Anthropic's token budget; None where it cannot be.
    """

    tools: bool = True
    vision: bool = False
    json_schema: bool = True
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    reasoning: Literal["effort", "thinking"] | None = None


@dataclass(frozen=True, slots=True)
class Lacks:
    """What a hosted model has no way to do, told from its dialect and its name.

    Attributes:
        refused: Features without which an answer would be another one: another model is chosen.
        dropped: Fields that it is not sent, since an answer without them serves as well.
        dropped_thinking: Those that it is not sent where the caller has it think.
        output_limit: The one name of the output limit that it knows; None where it knows both.
        output_tokens: The longest answer that may be asked of it; None where that is not known.
    """

    refused: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    dropped_thinking: frozenset[str] = frozenset()
    output_limit: str | None = None
    output_tokens: int | None = None


LACKS_NOTHING = Lacks()


@dataclass(frozen=True, slots=True)
class HostedModel:
    """One model a caller can name and the router can choose.

    Attributes:
        name: What callers and routers call it.
        provider: Name of the provider that hosts it.
        upstream_name: What the provider calls it.
        system_prompt: Put before the caller's messages; makes an honest variant of a model.
        request_defaults: Request fields set where the caller left them out.
        fields: Request fields that callers may send to its provider; None means any.
        lacks: What it has no way to do.
        kind: What it is asked for.
        attributes: What its operator says of where and how it is hosted; data rules require them.
        deployments: Where it can be called, if that is more than one place; in order of priority,
            and the first is what the model itself says.
        fallbacks: Names of the models that answer in its place where a caller names it and it
            cannot; most often none.
    """

    name: str
    provider: str
    upstream_name: str
    price: ModelPrice
    capabilities: Capabilities = Capabilities()
    system_prompt: str | None = None
    request_defaults: Mapping[str, Any] = field(default_factory=dict)
    fields: frozenset[str] | None = None
    lacks: Lacks = LACKS_NOTHING
    kind: ModelKind = "chat"
    attributes: frozenset[str] = frozenset()
    deployments: "tuple[Deployment, ...]" = ()
    fallbacks: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """Where it is called."""
        return self.provider, self.upstream_name

    def is_at(self, places: Collection[Place]) -> bool:
        """Whether it is called at none but these places."""
        if not self.deployments:
            return self.place in places
        return all(one.model.place in places for one in self.deployments)

    def is_admitted(self, requires: frozenset[str]) -> bool:
        """Whether what requires these attributes may be sent to any of its deployments."""
        if not self.deployments:
            return requires <= self.attributes
        return any(requires <= one.model.attributes for one in self.deployments)


class Deployment(NamedTuple):
    """One of several places where a model is called.

    Attributes:
        model: As it is there: with that place's price, fields and attributes.
        weight: Its share of the calls, relative to others of its priority; 0 is called last.
        priority: Those with the lowest number are called first.
    """

    model: HostedModel
    weight: float = 1.0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class NativeRequest:
    """A request as its caller sent it, for upstreams that speak the caller's own wire.

    Attributes:
        wire: Which that is, such as ``messages``.
        body: Without the gateway's own object; never modified.
        headers: Of the caller's, that such an upstream is sent too.
    """

    wire: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, as its virtual key says.

    Attributes:
        key_id: Public identifier of the key; safe to log.
        team_id: The tenant; part of every cache key and every log row.
        allowed_models: Model names the key may use; None means all.
        profile: Routing profile used where the request names none.
        logs_text: The team opted in to keeping query text in its own log.
        trains_reasoner: It opted in to keeping prompts and answers for a reasoner to learn from.
        is_judged: It opted in to having answers judged by models, and compared with second ones.
        stores_responses: It opted in to keeping its responses, to go on from them by their ids.
        requires: Attributes of models that the request's data may go to.
        data_rules: The rules that say so, as ``name@version``.
    """

    key_id: str
    team_id: str
    allowed_models: frozenset[str] | None = None
    profile: str | None = None
    logs_text: bool = False
    trains_reasoner: bool = False
    is_judged: bool = False
    stores_responses: bool = False
    requires: frozenset[str] = frozenset()
    data_rules: tuple[str, ...] = ()

    def may_use(self, model: HostedModel) -> bool:
        """Whether the key and all data rules admit `model`."""
        return self.may_name(model.name) and model.is_admitted(self.requires)

    def may_name(self, model: str) -> bool:
        """Whether the key admits what is called `model`."""
        return self.allowed_models is None or model in self.allowed_models

    def may_send_to(self, attributes: frozenset[str]) -> bool:
        """Whether the data rules let the request's data go where these attributes hold."""
        return self.requires <= attributes


@dataclass(slots=True)
class TurnRecord:
    """One answered (or failed) turn: the row that routing, budgets and training all read.

    It is filled in while the turn is served and handed to the log when the turn has ended; from
    then on nobody changes it. A column of the table `turns` is the field of the same name, but for
    those of `usage` and for `started_at`.

    Attributes:
        requested_model: What the caller asked for, ``auto`` included.
        chosen_model: What the decision chose.
        served_model: What answered; differs from `chosen_model` after a fallback.
        answer_id: The `id` the answer's body carries; what a caller knows it by.
        query_embedding: float32 of the encoder's dimension; None if the query was not encoded.
        query_text: Only where the team opted in.
        propensity: Probability with which the logging policy chose `chosen_model`; 1.0 where
            the caller named the model.
        route_reason: Why the model was chosen: ``router``, ``explored``, ``named``,
            ``router_missing``, ``router_failed``; ``refused`` where none was.
        cost_nusd: Charged cost of `usage`, nano-USD.
        given_up_nusd: Charged for earlier calls that nobody waited for to their end, but that a
            provider may bill.
        gateway_s: From the request to the first call upstream.
        error: Class name of what ended the turn; None if it was answered whole.
        policy_version: Budget policy that shared out the conversation's `budget_tokens`.
        proposed_tokens: What it proposed for this turn; `allotted_tokens` is what fitted.
        policy_propensity: Probability with which it drew that proposal.
        data_rules: Those that the turn was held to, as ``name@version``, separated by commas.
        user_digest: Of the end user that the request names, as scopes of budgets have it.
        trace_id: Of the trace that the turn is a part of: W3C's, 32 hexadecimal digits.
        messages: The prompt, and `answer`, what it was answered: only where the team opted in,
            and both are text.
    """

    request_id: str
    decision_id: str
    started_at_unix_s: float
    key_id: str
    team_id: str
    requested_model: str
    turn_index: int
    is_stream: bool
    conversation_id: str | None = None
    answer_id: str | None = None
    chosen_model: str | None = None
    served_model: str | None = None
    provider: str | None = None
    encoder_id: str | None = None
    query_embedding: Float32 | None = None
    query_text: str | None = None
    candidates: Candidates = NO_CANDIDATES
    propensity: float = 1.0
    route_reason: str = "refused"
    router_version: str | None = None
    policy_version: str | None = None
    willingness_to_pay_usd: float | None = None
    usage: Usage | None = None
    cost_nusd: int = 0
    given_up_nusd: int = 0
    latency_s: float = 0.0
    first_byte_s: float | None = None
    gateway_s: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    attempts: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    budget_tokens: int | None = None
    proposed_tokens: int | None = None
    allotted_tokens: int | None = None
    policy_propensity: float | None = None
    data_rules: str | None = None
    user_digest: str | None = None
    trace_id: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    answer: str | None = None

    @property
    def expected(self) -> CandidateRecord | None:
        """What the router expected of the model that served; None where it knew nothing."""
        served = self.candidates.find(self.served_model)
        return None if served is None or served.quality is None else served
