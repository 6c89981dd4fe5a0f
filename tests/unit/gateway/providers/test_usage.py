import pytest

from gateway.providers.usage import MAX_TOKENS, usage_of
from gateway.types import Usage


def test_reads_every_kind_of_token() -> None:
    usage = usage_of(
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 3},
        }
    )
    assert usage == Usage(10, 5, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=3)


def test_reads_deepseeks_cached_tokens() -> None:
    usage = usage_of({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8})
    assert usage == Usage(10, 5, cached_tokens=8)


def test_one_count_is_enough() -> None:
    assert usage_of({"prompt_tokens": 7}) == Usage(7, 0)
    assert usage_of({"completion_tokens": 7}) == Usage(0, 7)


@pytest.mark.parametrize(
    "reported",
    [None, "12", [], {}, {"prompt_tokens": -1}, {"prompt_tokens": "9"}, {"prompt_tokens": True}],
)
def test_what_counts_nothing_is_no_usage(reported: object) -> None:
    assert usage_of(reported) is None


def test_reasoning_that_a_host_leaves_out_of_the_completion_is_added() -> None:
    reported = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 115,
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    assert usage_of(reported) == Usage(10, 105, reasoning_tokens=100)
    assert usage_of(reported | {"total_tokens": 15}) == Usage(10, 5, reasoning_tokens=5)


@pytest.mark.parametrize(
    ("cached", "written", "kept"), [(2**60, 0, (10, 0)), (4, 2**60, (4, 6)), (7, 7, (7, 3))]
)
def test_parts_are_not_more_than_their_whole(cached, written, kept) -> None:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    usage = usage_of(
        {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": details}
    )
    assert usage is not None
    assert (usage.cached_tokens, usage.cache_write_tokens) == kept


def test_no_count_is_more_than_any_call_can_have() -> None:
    usage = usage_of({"prompt_tokens": 2**60, "completion_tokens": 10**30})
    assert usage == Usage(MAX_TOKENS, MAX_TOKENS)


def test_counts_of_nothing_are_no_report() -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert usage_of(zeros) is None
