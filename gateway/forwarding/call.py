"""A call that is allowed: where it goes, what it may cost, and where its answer says what it did.

All endpoints but those of turns come down to this form. Two modules make it: `model_endpoints` for
models that the gateway knows, `passthrough` for what an operator lets callers use as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.budgets.worst_case import WorstCase
from gateway.providers.forwarding import Form
from gateway.types import Usage
from gateway.wire import ChatRequest, parse_options

NOTHING = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Charged:
    """What a call is charged, never more than was held for it."""

    nusd: int
    usage: Usage = NOTHING


class Tariff(Protocol):
    """What one call may cost, and what it did cost."""

    @property
    def need(self) -> WorstCase:
        """What is held before the call."""
        ...

    @property
    def is_read(self) -> bool:
        """Whether the answer says what the call cost."""
        ...

    def of_answer(self, answer: Any) -> Charged:
        """Charge a whole answer, decoded if it is JSON; as held if it does not say its use."""
        ...

    def of_usage(self, usage: Usage | None) -> Charged:
        """Charge what a stream used; as held where that is not known."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One call to be made.

    Attributes:
        operation: What is asked, for metrics.
        name: Of the model or the endpoint, as callers and operators know it.
        upstream_name: Of the model at the provider; None where the gateway knows of none.
        path: At the provider, below the API's version.
        scopes: Names the end user and the conversation that budgets may limit.
    """

    operation: str
    name: str
    provider: str
    upstream_name: str | None
    method: str
    path: str
    body: bytes | None
    content_type: str | None
    tariff: Tariff
    scopes: ChatRequest
    form: Form = "any"
    n_choices: int = 1
    takes_usage: bool = False


def scopes_of(name: str, body: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> ChatRequest:
    """Read from a body and headers what limits of users and conversations need.

    Raises:
        InvalidRequest: A header of the gateway's own is malformed.
    """
    return ChatRequest(
        model=name,
        body=dict(body),
        query="",
        prompt_tokens=0,
        turn_index=0,
        is_stream=False,
        wants_usage=False,
        options=parse_options(body.get("waypost"), headers),
    )


def worst_of(nusd: int, tokens: int = 0) -> WorstCase:
    """Bound a call that puts out no tokens."""
    return WorstCase(
        prompt_nusd=nusd,
        prompt_tokens=tokens,
        completion_nusd_per_mtok=0,
        choices=1,
        least_completion_tokens=0,
        most_completion_tokens=0,
        is_capped=True,
    )
