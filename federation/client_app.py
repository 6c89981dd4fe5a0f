"""A site's Flower client: answers exchanges, under the site's own policy and no other."""

import logging
from collections.abc import Callable

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from federation.errors import FederationError, PlanRefused
from federation.exchanges.exchange import Exchange, Task
from federation.exchanges.table import EXCHANGES
from federation.protocol import (
    ARRAYS,
    ARTIFACT,
    HELLO,
    PUBLISH,
    REFUSED,
    Instruction,
    TrainingPlan,
    answer,
    read_refusal,
    refusal,
    to_record,
)
from federation.site import Site, SitePolicy
from router_models.errors import RouterModelsError

Answer = Callable[[Message], RecordDict]

logger = logging.getLogger(__name__)


def build_client_app(site: Site) -> ClientApp:
    """Make the app that answers for `site`; it keeps nothing between messages."""
    app = ClientApp()
    _register(app, HELLO, lambda message: _greet(site, message))
    _register(app, REFUSED, _hear_refusal)
    _register(app, PUBLISH, lambda message: _receive(site, message))
    for exchange in EXCHANGES:
        _register(app, exchange.name, _answer_of(site, exchange))
    return app


def check_policy(plan: TrainingPlan, policy: SitePolicy) -> None:
    """Let a plan through that asks for no more than the site gives.

    Raises:
        PlanRefused: It asks for more; the message says for what.
    """
    if plan.least_rows < policy.least_rows:
        raise PlanRefused(
            f"this site sends nothing made of fewer than {policy.least_rows} rows; the plan's "
            f"least_rows is {plan.least_rows}"
        )
    if policy.needs_noise:
        raise PlanRefused("this site sends nothing without noise, and the plan has none")
    if policy.needs_secure_sum:
        raise PlanRefused("this site sends nothing unmasked, and the plan has no secure sums")


def _register(app: ClientApp, name: str, reply_to: Answer) -> None:
    """Answer messages of one type; what the site will not do is a refusal, not a failure."""
    category, action = name.split(".")

    def handle(message: Message, _: Context) -> Message:
        try:
            content = reply_to(message)
        except (FederationError, RouterModelsError) as error:
            logger.warning("refused %s: %s", name, error)
            content = refusal(str(error))
        return Message(content, reply_to=message)

    {"query": app.query, "train": app.train, "evaluate": app.evaluate}[category](action)(handle)


def _greet(site: Site, message: Message) -> RecordDict:
    plan = Instruction.from_content(message.content).plan
    check_policy(plan, site.policy)
    return answer(site.profile(plan.registry))


def _hear_refusal(message: Message) -> RecordDict:
    logger.error("the coordinator refused this node: %s", read_refusal(message))
    return RecordDict()


def _answer_of(site: Site, exchange: Exchange) -> Answer:
    def reply_to(message: Message) -> RecordDict:
        instruction = Instruction.from_content(message.content)
        check_policy(instruction.plan, site.policy)
        payload = exchange.answer(Task(site, instruction))
        # What the coordinator would drop does not leave in the first place.
        exchange.form(instruction).check(payload)
        return RecordDict({ARRAYS: to_record(payload)})

    return reply_to


def _receive(site: Site, message: Message) -> RecordDict:
    artifact = Instruction.from_content(message.content).sent[ARTIFACT]
    return answer(site.receive(np.asarray(artifact, np.uint8).tobytes()))
