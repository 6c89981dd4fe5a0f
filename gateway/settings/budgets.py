"""The settings of budgets: where their counters are, and what happens when that place is down."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from gateway.settings.base import Settings


class BudgetSettings(Settings):
    """Where budgets are counted, and what happens when that store is down."""

    store: Annotated[
        Literal["memory", "redis"],
        Field(
            description="Where budgets are counted: `memory` for one gateway process, `redis` for "
            "several. Counters in memory are rebuilt from the database at each start."
        ),
    ] = "memory"
    redis_url: Annotated[
        SecretStr | None,
        Field(
            description="URL of Redis, such as `redis://:password@host:6379/0`; "
            '`redis+cluster://` for a cluster. Required with `store = "redis"`.'
        ),
    ] = None
    webhook_url: Annotated[
        SecretStr | None,
        Field(
            description="URL that is sent a JSON object by POST when 50, 80 and 100 % of a budget "
            "of a day or longer are spent, once in each window, whichever gateway sees it first. "
            "Without it nobody is told."
        ),
    ] = None
    when_store_is_down: Annotated[
        Literal["closed", "open"],
        Field(
            description="What happens to callers with a budget while the store is down. `closed` "
            "refuses them with status 503. `open` serves them and charges the budgets afterwards, "
            "so budgets can be exceeded meanwhile."
        ),
    ] = "closed"
    store_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds to connect to the store, and to wait for each of its answers. "
            "After that it counts as down.",
        ),
    ] = 1.0
    lease_s: Annotated[
        float,
        Field(
            ge=1,
            description="Seconds after which a reservation that its gateway no longer renews is "
            "charged in full, because that gateway is taken for dead. A longer time keeps the "
            "budget of its requests reserved for longer; a shorter one may charge requests of a "
            "gateway that only paused.",
        ),
    ] = 60.0
    definitions_poll_s: Annotated[
        float,
        Field(
            gt=0,
            le=1.5,
            description="Seconds between two reads of the budgets' definitions, and so the longest "
            "time until a changed cap takes effect.",
        ),
    ] = 1.0
    conversation_from_prefix: Annotated[
        bool,
        Field(
            description="Recognise the conversation of a request that names none by its opening: "
            "the key, the end user, the system prompt and the first user message. Conversations "
            "that open alike then share one budget. By default such a request belongs to none."
        ),
    ] = False
    min_completion_tokens: Annotated[
        int,
        Field(
            gt=0,
            description="Fewest completion tokens that an answer is given. A request whose budget "
            "has room for fewer is refused with status 429 instead of being cut off at once.",
        ),
    ] = 16
    default_max_completion_tokens: Annotated[
        int,
        Field(
            gt=0,
            description="Completion tokens reserved for a request where neither the caller nor the "
            "model sets a limit. A larger number reserves more of the budget during the request; "
            "what is not used is given back.",
        ),
    ] = 16_384

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.store == "redis" and self.redis_url is None:
            raise ValueError('store = "redis" needs redis_url, such as "redis://host:6379/0"')
        url = self.webhook_url
        if url is not None and not re.match(r"https?://[^/?#\s]+", url.get_secret_value()):
            raise ValueError("webhook_url: write a URL with http:// or https://")
        least, most = self.min_completion_tokens, self.default_max_completion_tokens
        if most < least:
            raise ValueError(
                f"default_max_completion_tokens ({most}) is below min_completion_tokens ({least})"
            )
        return self
