from functools import partial
from math import inf
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.prompt_caches.contenders import Always, Gateway, Pinned, request_of
from benchmarks.prompt_caches.run import OURS, Bill, Time, World, run, savings
from benchmarks.prompt_caches.world import TRACE, Call, Providers, Queries, read_calls
from gateway.routing.caches import PromptCaches
from gateway.routing.prefixes import links
from gateway.types import HostedModel, ModelPrice

PRICE = ModelPrice(10_000_000_000, 20_000_000_000, cached_input_nusd_per_mtok=1_000_000_000)
MODELS = tuple(HostedModel(name, "p", name, PRICE) for name in ("a", "b"))


def a_call(
    turn: int, tokens: int = 10_000, at_s: float | None = None, conversation: int = 0
) -> Call:
    time_s = 60.0 * turn if at_s is None else at_s
    return Call(time_s, conversation, conversation, turn, tokens + 100 * turn, 50)


def test_calls_that_begin_alike_are_a_conversation_and_a_shorter_prompt_begins_anew(
    tmp_path: Path,
) -> None:
    columns = {
        "trace": [TRACE] * 5 + ["other"],
        "t_s": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "prompt_tokens": [2_000, 5_000, 3_000, 2_500, 2_600, 9],
        "completion_tokens": [1, 2, 3, 4, 5, 6],
        "first_block": [7.0, 8.0, 7.0, 7.0, 7.0, 7.0],
    }
    pq.write_table(pa.table(columns), tmp_path / "traffic_traces.parquet")
    calls = read_calls(tmp_path)
    assert [call.conversation for call in calls] == [0, 1, 0, 0, 0]
    assert [call.turns for call in calls] == [0, 0, 1, 0, 1]
    assert calls[2].branch == calls[0].branch != calls[3].branch == calls[4].branch


def test_a_call_s_request_goes_on_from_that_of_the_call_before() -> None:
    before, after = (links(request_of(a_call(turn)).body, 0) for turn in (1, 2))
    assert after[: len(before)] == before


def test_a_provider_has_whole_blocks_of_a_prompt_until_they_were_unused_too_long() -> None:
    providers = Providers.of(300.0)
    assert providers.read(a_call(0, 1_500), 0, 0.0) == 0
    assert providers.read(a_call(1, 1_500), 1, 0.0) == 0
    assert providers.read(a_call(1, 1_500), 0, 300.0) == 1_408
    assert providers.read(a_call(2, 1_500), 0, 700.0) == 0
    short = Providers.of(300.0)
    assert [short.read(a_call(0, 1_000), 0, 0.0), short.read(a_call(0, 1_000), 0, 1.0)] == [0, 0]


@pytest.fixture
def nearly_alike() -> Queries:
    """Two models whose predictions differ by chance alone, by a thousandth."""
    rng = np.random.default_rng(0)
    predicted = 0.5 + 0.001 * rng.random((50, 2))
    return Queries(np.full((50, 2), 0.5), predicted, (np.arange(50),))


def test_ours_stays_where_nothing_is_to_be_gained_and_routing_per_turn_does_not(
    nearly_alike: Queries,
) -> None:
    calls = [a_call(turn, at_s=60.0 * turn, conversation=c) for turn in range(8) for c in range(20)]
    time = Time()
    contenders = {
        "per turn": partial(Gateway, MODELS, 1.0),
        "pinned": lambda: Pinned(Gateway(MODELS, 1.0), inf),
        OURS: partial(Gateway, MODELS, 1.0, PromptCaches(time), now=time),
    }
    bills = {
        name: run(World(), calls, nearly_alike, MODELS, made, 0)
        for name, made in contenders.items()
    }
    assert bills[OURS].switches == 0.0 < bills["per turn"].switches
    assert bills[OURS].usd.sum() == pytest.approx(bills["pinned"].usd.sum())
    assert bills[OURS].usd.sum() < 0.7 * bills["per turn"].usd.sum()
    assert run(World(), calls, nearly_alike, MODELS, partial(Always, 0), 0).switches == 0.0


def test_what_is_saved_is_a_share_of_the_other_s_cost_at_equal_quality() -> None:
    def bill(quality: float, usd: float) -> Bill:
        return Bill(np.full(10, quality), np.full(10, usd), 0.0, 0.0)

    found = savings(
        {
            OURS: [bill(0.4, 1.0), bill(0.8, 2.0)],
            "dearer": [bill(0.4, 2.0), bill(0.8, 4.0)],
            "single": [bill(0.6, 1.0)],
        },
        10,
    )
    assert found["dearer"] == pytest.approx([0.5, 0.5, 0.5])
    assert found["single"] == pytest.approx([-0.5, -0.5, -0.5])
