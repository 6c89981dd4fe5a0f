"""The coordinator's part in secure sums: who takes part in one, and what if somebody drops out."""

from collections.abc import Iterable
from dataclasses import replace

from flwr.app import Message

from federation.coordinator.fleet import ExchangeRequest, Fleet, check_claimed_rows
from federation.coordinator.nodes import require_quorum
from federation.exchanges.masked import KeyExchange, unmask_total
from federation.protocol.protocol import Instruction
from federation.protocol.updates import Reply
from federation.site import SiteProfile


def agree_on_keys(fleet: Fleet, request: ExchangeRequest) -> ExchangeRequest:
    """Ask the sites for keys, and narrow the question down to those that sent one.

    Raises:
        QuorumMissing: Too few did.
    """
    plan, instruction = fleet.plan, request.instruction
    key_request = ExchangeRequest(
        KeyExchange(), Instruction(plan, instruction.round), request.selected, fleet.clock()
    )
    good = fleet.collect_replies(key_request, _send(fleet, key_request))
    require_quorum(plan, len(good), fleet.report)
    members = KeyExchange().aggregate({}, key_request.instruction, good)
    return ExchangeRequest(
        request.exchange,
        replace(instruction, sent={**instruction.sent, **members}),
        _survivors(request, good),
        fleet.clock(),
    )


def collect_masked_total(
    fleet: Fleet, request: ExchangeRequest, messages: Iterable[Message]
) -> tuple[ExchangeRequest, Reply]:
    """Read the total; where a member dropped out, repeat the exchange with the others first.

    Returns:
        The question that was answered by all its members, and their total.

    Raises:
        QuorumMissing: Too few are left.
        ReplyRejected: The total is not usable.
    """
    good = fleet.collect_replies(request, messages)
    while len(good) < len(request.selected):
        require_quorum(fleet.plan, len(good), fleet.report)
        request = agree_on_keys(fleet, replace(request, selected=_survivors(request, good)))
        good = fleet.collect_replies(request, _send(fleet, request))
    total = unmask_total(request.exchange, request.instruction, good)
    claimed_rows = sum(site.rows for site in request.selected.values())
    check_claimed_rows(request.exchange, total.payload, claimed_rows)
    return request, total


def _survivors(request: ExchangeRequest, good: list[Reply]) -> dict[int, SiteProfile]:
    names = {reply.site for reply in good}
    return {node: site for node, site in request.selected.items() if site.name in names}


def _send(fleet: Fleet, request: ExchangeRequest) -> Iterable[Message]:
    return fleet.grid.send_and_receive(fleet.to_messages(request), timeout=fleet.plan.timeout_s)
