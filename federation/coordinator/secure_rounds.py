"""The coordinator's part in secure aggregation: key agreement, dropouts, unmasking."""

from dataclasses import replace

from federation.coordinator.fleet import ExchangeRequest, Fleet, check_claimed_rows
from federation.coordinator.nodes import require_quorum
from federation.exchanges.masked import KeyExchange, unmask_total
from federation.protocol.protocol import Instruction
from federation.protocol.updates import Reply
from federation.site import SiteProfile


def aggregate_securely(fleet: Fleet, request: ExchangeRequest) -> tuple[ExchangeRequest, Reply]:
    """Collect masked replies and unmask their total.

    Masks cancel only in the sum over all members. So where a member drops out after the key
    agreement, the survivors agree on new keys and are asked again.

    Returns:
        The request that all its members answered, and their total.

    Raises:
        QuorumMissing: Too few members are left.
        ReplyRejected: The total is not usable.
    """
    request = agree_on_keys(fleet, request)
    good = fleet.send_and_collect(request)
    while len(good) < len(request.selected):
        require_quorum(fleet.plan, len(good), fleet.report)
        request = agree_on_keys(fleet, replace(request, selected=_survivors(request, good)))
        good = fleet.send_and_collect(request)
    total = unmask_total(request.exchange, request.instruction, good)
    claimed_rows = sum(site.rows for site in request.selected.values())
    check_claimed_rows(request.exchange, total.payload, claimed_rows)
    return request, total


def agree_on_keys(fleet: Fleet, request: ExchangeRequest) -> ExchangeRequest:
    """Collect a public key from every selected site; the request then names them all.

    Returns:
        The request, to the sites that sent a key and no others.

    Raises:
        QuorumMissing: Too few sites sent a key.
    """
    instruction = request.instruction
    key_request = replace(
        request,
        exchange=KeyExchange(),
        instruction=Instruction(fleet.plan, instruction.round),
        started_s=fleet.clock(),
    )
    good = fleet.send_and_collect(key_request)
    require_quorum(fleet.plan, len(good), fleet.report)
    members = KeyExchange().aggregate({}, key_request.instruction, good)
    return replace(
        request,
        instruction=replace(instruction, sent={**instruction.sent, **members}),
        selected=_survivors(request, good),
        started_s=fleet.clock(),
    )


def _survivors(request: ExchangeRequest, good: list[Reply]) -> dict[int, SiteProfile]:
    names = {reply.site for reply in good}
    return {node: site for node, site in request.selected.items() if site.name in names}
