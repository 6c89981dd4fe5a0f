"""Turn records to log, and a way to wait for what a thread does."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gateway.candidate_records import CandidateRecord, Candidates
from gateway.types import TurnRecord, Usage
from tests.fakes.patience import PATIENCE_S

START_UNIX_S = float(int(time.time()) - 86_400)
"""Yesterday, whenever that is: gateways forget what is older than their retention."""


CONSIDERED = (
    CandidateRecord("small", 0.5, 0.001, 0.45, 0.9, is_eligible=True, verdict="ok"),
    CandidateRecord("large", 0.9, 0.1, -4.1, 0.1, is_eligible=True, verdict="ok"),
)


def make_turn(number: int = 0, **changes: Any) -> TurnRecord:
    """Return a turn in which everything is filled in; `changes` overrides fields.

    Candidates are given as records.
    """
    if "candidates" in changes:
        changes["candidates"] = Candidates.of(changes["candidates"])
    turn = TurnRecord(
        request_id=f"req_{number:06d}",
        decision_id=f"dec_{number:06d}",
        answer_id=f"chatcmpl-{number:06d}",
        started_at_unix_s=START_UNIX_S + number,
        key_id="0123456789ab",
        team_id="default",
        conversation_id="conv_1",
        turn_index=number,
        requested_model="auto",
        chosen_model="small",
        served_model="small",
        provider="openai",
        encoder_id="static-cheap-1",
        query_embedding=np.array([0.5, -1.0, float(number)], np.float32),
        query_text=None,
        candidates=Candidates.of(CONSIDERED),
        propensity=0.9,
        route_reason="router",
        router_version="r-1",
        policy_version="p-1",
        willingness_to_pay_usd=0.02,
        usage=Usage(
            100,
            50,
            cached_tokens=20,
            cache_write_tokens=5,
            reasoning_tokens=7,
            cache_write_1h_tokens=3,
        ),
        cost_nusd=12_345_678_901,
        given_up_nusd=7,
        data_rules="europe@1a2b3c4d",
        user_digest="d1" * 16,
        trace_id="7c" * 16,
        latency_s=0.4,
        first_byte_s=0.1,
        gateway_s=0.0005,
        is_stream=True,
        finish_reason="stop",
        error=None,
        attempts=1,
        metadata={"task": "gsm8k"},
        budget_tokens=8000,
        proposed_tokens=1024,
        allotted_tokens=512,
        policy_propensity=0.25,
    )
    return replace(turn, **changes)


async def until(
    is_so: Callable[..., bool], timeout_s: float = PATIENCE_S, poll_s: float = 0.01
) -> None:
    """Wait for what another thread or process does.

    Raises:
        TimeoutError: It did not do so in time.
    """
    async with asyncio.timeout(timeout_s):
        while not is_so():  # noqa: ASYNC110 - nothing to await in a thread or another process
            await asyncio.sleep(poll_s)
