"""A site's Flower client: answers exchanges, under the site's own policy and no other."""

import logging
from collections.abc import Callable

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from federation.errors import FederationError
from federation.exchanges.exchange import Exchange, Task
from federation.exchanges.masked import KeyExchange, MaskingKey
from federation.exchanges.table import EXCHANGES
from federation.node.protection import Protection, withhold_figures
from federation.privacy.accounting import PrivacyAccount
from federation.privacy.members import Identity
from federation.protocol.protocol import (
    ARRAYS,
    HELLO,
    PUBLISH,
    REFUSED,
    Instruction,
    answer,
    published,
    read_refusal,
    refusal,
    to_record,
)
from federation.reasoner.client import ReasonerClient, ReasonerSite
from federation.site import Site
from router_models.errors import RouterModelsError

Answer = Callable[[Message], RecordDict]

logger = logging.getLogger(__name__)


def build_client_app(
    site: Site,
    account: PrivacyAccount | None = None,
    reasoner: ReasonerSite | None = None,
    identity: Identity | None = None,
) -> ClientApp:
    """Make the app that answers for `site`.

    It keeps nothing between messages but the key of the next masked answer.

    Args:
        site: Whose rows are learned from.
        account: What noisy answers are charged to; a site that has one sends no others.
        reasoner: Whose prompts a reasoning model is tuned on; None takes no part in that.
        identity: With whom the site takes part in secure sums; None trusts the coordinator in that.
    """
    app = build_reasoner_app(reasoner)
    protection = Protection(account, masking_key=MaskingKey(identity))
    _register(app, HELLO, lambda message: _on_hello(site, protection, message))
    _register(app, PUBLISH, lambda message: _on_publish(site, message))
    for exchange in (*EXCHANGES, KeyExchange(masking_key=protection.masking_key)):
        _register(app, exchange.name, _answer_of(site, protection, exchange))
    return app


def build_reasoner_app(site: ReasonerSite | None) -> ClientApp:
    """Make the app of a site that tunes a reasoning model, and no more."""
    app = ClientApp()
    _register(app, REFUSED, _on_refusal)
    for name, reply_to in ReasonerClient(site).answers().items():
        _register(app, name, reply_to)
    return app


def _register(app: ClientApp, name: str, reply_to: Answer) -> None:
    """Answer messages of one type; what the site will not do is a refusal, not a failure."""
    category, action = name.split(".")

    def handle(message: Message, _: Context) -> Message:
        try:
            content = reply_to(message)
        except (FederationError, RouterModelsError) as error:
            logger.warning("refused the coordinator's message %s: %s", name, error)
            content = refusal(str(error))
        return Message(content, reply_to=message)

    {"query": app.query, "train": app.train, "evaluate": app.evaluate}[category](action)(handle)


def _on_hello(site: Site, protection: Protection, message: Message) -> RecordDict:
    plan = Instruction.from_content(message.content).plan
    protection.check(plan, site.policy)
    return answer(site.profile(plan.registry))


def _on_refusal(message: Message) -> RecordDict:
    logger.error("the coordinator refused this node: %s", read_refusal(message))
    return RecordDict()


def _answer_of(site: Site, protection: Protection, exchange: Exchange) -> Answer:
    def reply_to(message: Message) -> RecordDict:
        instruction = Instruction.from_content(message.content)
        protection.check(instruction.plan, site.policy)
        payload = protection.answer(exchange, Task(site, instruction))
        return RecordDict({ARRAYS: to_record(payload)})

    return reply_to


def _on_publish(site: Site, message: Message) -> RecordDict:
    instruction = Instruction.from_content(message.content)
    verdict = site.receive(*published(instruction.sent))
    return answer(withhold_figures(verdict, instruction.plan))
