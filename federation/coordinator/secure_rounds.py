"""The coordinator's part in secure sums: who takes part in one, and what if somebody drops out."""

from collections.abc import Iterable
from dataclasses import replace

from flwr.app import Message

from federation.coordinator.fleet import Fleet, Question, hold_to_claim
from federation.coordinator.nodes import need_quorum
from federation.exchanges.masked import KeyExchange, open_total
from federation.protocol.protocol import Instruction
from federation.protocol.updates import Reply
from federation.site import SiteProfile


def agree(fleet: Fleet, question: Question) -> Question:
    """Ask the sites for keys, and narrow the question down to those that sent one.

    Raises:
        QuorumMissing: Too few did.
    """
    plan, instruction = fleet.plan, question.instruction
    asking = Question(
        KeyExchange(), Instruction(plan, instruction.round), question.asked, fleet.clock()
    )
    good = fleet.hear(asking, _send(fleet, asking))
    need_quorum(plan, len(good), fleet.report)
    members = KeyExchange().merge({}, asking.instruction, good)
    return Question(
        question.exchange,
        replace(instruction, sent={**instruction.sent, **members}),
        _narrowed(question, good),
        fleet.clock(),
    )


def hear_total(
    fleet: Fleet, question: Question, messages: Iterable[Message]
) -> tuple[Question, Reply]:
    """Read the total; where a member dropped out, repeat the exchange with the others first.

    Returns:
        The question that was answered by all its members, and their total.

    Raises:
        QuorumMissing: Too few are left.
        ReplyRejected: The total is not usable.
    """
    good = fleet.hear(question, messages)
    while len(good) < len(question.asked):
        need_quorum(fleet.plan, len(good), fleet.report)
        question = agree(fleet, replace(question, asked=_narrowed(question, good)))
        good = fleet.hear(question, _send(fleet, question))
    total = open_total(question.exchange, question.instruction, good)
    claimed_rows = sum(site.rows for site in question.asked.values())
    hold_to_claim(question.exchange, total.payload, claimed_rows)
    return question, total


def _narrowed(question: Question, good: list[Reply]) -> dict[int, SiteProfile]:
    names = {reply.site for reply in good}
    return {node: site for node, site in question.asked.items() if site.name in names}


def _send(fleet: Fleet, question: Question) -> Iterable[Message]:
    return fleet.grid.send_and_receive(fleet.messages(question), timeout=fleet.plan.timeout_s)
