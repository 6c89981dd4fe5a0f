"""How budgets are kept: the table ``[budgets]``."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from gateway.config import Settings


class BudgetSettings(Settings):
    """Where counters live, and what happens when that place is down."""

    store: Annotated[
        Literal["memory", "redis"],
        Field(description="memory: one gateway process; redis: any number."),
    ] = "memory"
    redis_url: Annotated[
        SecretStr | None, Field(description="Such as redis://:password@host:6379/0.")
    ] = None
    when_store_is_down: Annotated[
        Literal["closed", "open"],
        Field(description="closed: budgeted callers get 503; open: they are served and counted."),
    ] = "closed"
    store_timeout_s: Annotated[float, Field(gt=0, description="One round trip.")] = 1.0
    lease_s: Annotated[
        float, Field(ge=1, description="A hold nobody renews is charged in full after this.")
    ] = 60.0
    definitions_poll_s: Annotated[
        float, Field(gt=0, le=1.5, description="How often changed budgets are looked for.")
    ] = 1.0
    conversation_from_prefix: Annotated[
        bool, Field(description="Recognise conversations by how they open.")
    ] = False
    min_completion_tokens: Annotated[
        int, Field(gt=0, description="Less room than this for an answer is refused.")
    ] = 16
    default_max_completion_tokens: Annotated[
        int, Field(gt=0, description="Held where neither caller nor model sets a limit.")
    ] = 16_384

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.store == "redis" and self.redis_url is None:
            raise ValueError('store = "redis" needs redis_url')
        if self.default_max_completion_tokens < self.min_completion_tokens:
            raise ValueError("default_max_completion_tokens is below min_completion_tokens")
        return self
