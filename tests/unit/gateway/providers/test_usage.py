import pytest

from gateway.providers.usage import usage_of
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
