from dataclasses import replace

import pytest

from gateway.budgets.prompt_tokens import PromptCounter, find_tokenizer, worst_prompt_tokens
from gateway.chat.usage import counted_usage, final_usage, output_of
from gateway.types import Capabilities, HostedModel, ModelPrice, Usage

MODEL = HostedModel("m", "p", "m", ModelPrice(1, 1), Capabilities(context_tokens=1_000))
BODY = {"messages": [{"role": "user", "content": "hello"}]}
ANSWER = "It is a good answer, which a model gave and a caller read. " * 20


@pytest.mark.parametrize("reported", [None, Usage(0, 5), Usage(5, 0), Usage(0, 0)])
def test_a_report_that_counts_no_prompt_or_no_answer_is_not_all(reported) -> None:
    assert final_usage(reported, MODEL, BODY) is None


def test_a_whole_report_is_taken_as_it_is() -> None:
    reported = Usage(10, 5, cached_tokens=3)
    assert final_usage(reported, MODEL, BODY) is reported


def test_no_report_is_taken_beyond_the_model_s_context() -> None:
    reported = Usage(
        2**31, 2**31, cached_tokens=2**30, cache_write_tokens=5, reasoning_tokens=2**30
    )
    cut = Usage(1_000, 1_000, 1_000, 0, 1_000, is_estimated=True)
    assert final_usage(reported, MODEL, BODY) == cut
    boundless = replace(MODEL, capabilities=Capabilities())
    usage = final_usage(reported, boundless, BODY)
    assert usage is not None
    assert usage.prompt_tokens == usage.completion_tokens == 10_000_000


@pytest.mark.parametrize("asked", [{"n": 3}, {"n": None}, {}])
def test_each_of_several_choices_has_the_context_to_itself(asked) -> None:
    several = replace(MODEL, request_defaults={"n": 3})
    assert final_usage(Usage(10, 3_000), several, BODY | asked) == Usage(10, 3_000)
    cut = final_usage(Usage(10, 3_001), several, BODY | asked)
    assert cut == Usage(10, 3_000, is_estimated=True)


@pytest.mark.parametrize("n", ["3", 3.0, -3, True, [3]])
def test_an_odd_number_of_choices_is_one(n) -> None:
    usage = final_usage(Usage(10, 3_000), MODEL, BODY | {"n": n})
    assert usage is not None
    assert usage.completion_tokens == 1_000


async def test_what_was_forwarded_counts_where_the_report_is_a_placeholder() -> None:
    tokenizer = find_tokenizer()
    assert tokenizer is not None
    usage = await counted_usage(Usage(25, 1), MODEL, PromptCounter(tokenizer), BODY, ANSWER)
    tokens = tokenizer(ANSWER)
    assert usage.prompt_tokens == 25
    assert tokens <= usage.completion_tokens <= 2 * tokens
    assert usage.is_estimated


async def test_a_report_above_what_was_forwarded_counts() -> None:
    usage = await counted_usage(Usage(25, 900), MODEL, PromptCounter(), BODY, "hi")
    assert usage == Usage(25, 900, is_estimated=True)


async def test_without_a_report_prompt_and_answer_are_counted_here() -> None:
    instructed = replace(MODEL, system_prompt="Be brief.")
    usage = await counted_usage(None, instructed, PromptCounter(), BODY, "hello", scale=2.0)
    assert usage.prompt_tokens == worst_prompt_tokens(BODY) + len("Be brief.")
    assert usage.completion_tokens == 10


def test_the_output_of_an_answer_is_all_that_the_model_wrote() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "a", "reasoning": "b", "tool_calls": [call]}
    assert output_of({"choices": [{"message": message}]}) == "abf{}"
    assert output_of({"choices": None}) == ""
