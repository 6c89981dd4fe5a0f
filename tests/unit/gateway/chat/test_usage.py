from dataclasses import replace
from typing import Any

import pytest

from gateway.budgets.prompt_tokens import (
    PromptCounter,
    find_tokenizer,
    worst_prompt_tokens,
)
from gateway.budgets.reservation import Reservation
from gateway.budgets.surplus import HOSTS_OWN_TOKENS
from gateway.chat.usage import (
    SentCall,
    chars_of,
    counted_usage,
    doubt_about,
    final_usage,
    output_of,
)
from gateway.types import Capabilities, HostedModel, ModelPrice, Usage

MODEL = HostedModel("m", "p", "m", ModelPrice(1, 1), Capabilities(context_tokens=1_000))
BODY = {"messages": [{"role": "user", "content": "hello"}]}
BOUNDLESS = replace(MODEL, capabilities=Capabilities())
LIMIT = "max_completion_tokens"
HELD = Reservation("r", is_held=True, tokens=150, output=50)
ANSWER = "It is a good answer, which a model gave and a caller read. " * 20


async def told(
    reported: Usage | None, model: HostedModel, body: Any, held: Reservation | None = None
) -> Usage | None:
    return await final_usage(reported, SentCall(model, body, held), PromptCounter())


@pytest.mark.parametrize("reported", [None, Usage(0, 5), Usage(5, 0), Usage(0, 0)])
async def test_a_report_that_counts_no_prompt_or_no_answer_is_not_all(reported) -> None:
    assert await told(reported, MODEL, BODY) is None


async def test_a_whole_report_is_taken_as_it_is() -> None:
    reported = Usage(10, 5, cached_tokens=3)
    assert await told(reported, MODEL, BODY) is reported


async def test_no_report_is_taken_beyond_the_model_s_context() -> None:
    reported = Usage(
        2**31, 2**31, cached_tokens=2**30, cache_write_tokens=5, reasoning_tokens=2**30
    )
    cut = Usage(1_000, 1_000, 1_000, 0, 1_000, is_estimated=True)
    assert await told(reported, MODEL, BODY) == cut


@pytest.mark.parametrize("limits", [{"max_tokens": 50}, {"max_tokens": 7, LIMIT: 50}])
@pytest.mark.parametrize("context", [None, 1_000_000])
async def test_no_report_is_taken_beyond_what_was_sent(limits, context) -> None:
    model = replace(MODEL, capabilities=Capabilities(context_tokens=context), system_prompt="Ha")
    usage = await told(Usage(2**31, 2**31), model, BODY | limits)
    most = worst_prompt_tokens(BODY | limits) + HOSTS_OWN_TOKENS + len("Ha")
    assert usage == Usage(most, 50, is_estimated=True)
    assert await told(Usage(most, 50), model, BODY | limits) == Usage(most, 50)


async def test_the_limit_that_a_model_always_sends_bounds_its_answers_too() -> None:
    brief = replace(MODEL, request_defaults={"max_tokens": 30})
    assert await told(Usage(9, 31), brief, BODY) == Usage(9, 30, is_estimated=True)
    assert await told(Usage(9, 31), brief, BODY | {LIMIT: 40}) == Usage(9, 31)


@pytest.mark.parametrize("limit", ["50", 0, True])
async def test_a_limit_that_a_host_may_read_in_two_ways_is_none(limit) -> None:
    assert await told(Usage(9, 900), MODEL, BODY | {"max_tokens": limit}) == Usage(9, 900)


async def test_an_answer_without_a_limit_has_at_most_a_million_tokens() -> None:
    usage = await told(Usage(9, 2**31), BOUNDLESS, BODY)
    assert usage == Usage(9, 1_000_000, is_estimated=True)


PARTS = [
    ({"type": "image_url", "image_url": {"url": "https://a/b.png"}}, 50_000),
    ({"type": "video_url", "video_url": {"url": "https://a/b.mp4"}}, 9_000_000),
    ({"type": "audio_url", "audio_url": {"url": "https://a/b.mp3"}}, 9_000_000),
    ({"type": "file", "file": {"file_id": "f-1"}}, 9_000_000),
]


@pytest.mark.parametrize(("part", "tokens"), PARTS)
async def test_what_has_no_known_size_may_be_long(part, tokens) -> None:
    body = {"messages": [{"role": "user", "content": [part]}]}
    assert await told(Usage(tokens, 5), BOUNDLESS, body) == Usage(tokens, 5)


@pytest.mark.parametrize("body", [BODY | {"plugins": [{"id": "web"}]}, BODY])
async def test_what_an_operator_let_a_host_do_beside_may_lengthen_prompt_and_answer(body) -> None:
    searching = replace(MODEL, request_defaults={"max_tokens": 5, "best_of": 3})
    assert await told(Usage(900, 15), searching, body) == Usage(900, 15)
    cut = await told(Usage(2_000, 5), searching, body)
    assert cut == Usage(1_000, 5, is_estimated=True)


async def test_a_long_prompt_may_have_more_tokens_than_characters() -> None:
    body = {"messages": [{"role": "user", "content": "\N{KHMER LETTER KA}" * 5_000}]}
    assert await told(Usage(15_000, 5), BOUNDLESS, body) == Usage(15_000, 5)
    cut = await told(Usage(18_000, 5), BOUNDLESS, body)
    assert cut is not None
    assert cut.is_estimated


@pytest.mark.parametrize("asked", [{"n": 3}, {"n": None}, {}])
async def test_each_of_several_choices_has_the_context_to_itself(asked) -> None:
    several = replace(MODEL, request_defaults={"n": 3})
    assert await told(Usage(10, 3_000), several, BODY | asked) == Usage(10, 3_000)
    cut = await told(Usage(10, 3_001), several, BODY | asked)
    assert cut == Usage(10, 3_000, is_estimated=True)


@pytest.mark.parametrize("n", ["3", 3.0, -3, True, [3]])
async def test_an_odd_number_of_choices_is_one(n) -> None:
    usage = await told(Usage(10, 3_000), MODEL, BODY | {"n": n})
    assert usage is not None
    assert usage.completion_tokens == 1_000


@pytest.mark.parametrize("held", [HELD, replace(HELD, is_held=False)])
async def test_nothing_is_charged_beyond_what_was_held(held) -> None:
    usage = await told(Usage(900, 60), MODEL, BODY, held)
    assert usage == (Usage(100, 50, is_estimated=True) if held.is_held else Usage(900, 60))
    assert await told(Usage(100, 50), MODEL, BODY, held) == Usage(100, 50)


async def test_what_an_operator_let_a_host_do_beside_may_cost_more_than_was_held() -> None:
    assert await told(Usage(900, 60), MODEL, BODY | {"plugins": []}, HELD) == Usage(900, 60)


async def test_what_was_forwarded_counts_where_the_report_is_a_placeholder() -> None:
    tokenizer = find_tokenizer()
    assert tokenizer is not None
    counter, own = PromptCounter(tokenizer), replace(BOUNDLESS, upstream_name="gpt-4o")
    usage = await counted_usage(Usage(25, 1), SentCall(own, BODY), counter, ANSWER)
    tokens = tokenizer(ANSWER)
    assert usage.prompt_tokens == 25
    assert tokens <= usage.completion_tokens <= 2 * tokens
    assert usage.is_estimated


async def test_of_another_model_each_byte_that_was_forwarded_counts() -> None:
    counter = PromptCounter(find_tokenizer())
    usage = await counted_usage(Usage(25, 1), SentCall(BOUNDLESS, BODY), counter, "\n" * 5_000, 7)
    assert usage == Usage(25, 5_007, is_estimated=True)


async def test_what_was_forwarded_is_not_charged_beyond_what_was_held() -> None:
    call = SentCall(BOUNDLESS, BODY | {"plugins": []}, HELD)
    usage = await counted_usage(Usage(25, 1), call, PromptCounter(), "\n" * 5_000)
    assert usage.completion_tokens == HELD.output


@pytest.mark.parametrize(
    ("reported", "n_chars", "doubt"),
    [
        (None, 0, "missing"),
        (Usage(0, 5), 0, "missing"),
        (Usage(9, 0), 20_000, "missing"),
        (Usage(9, 0), 0, None),
        (Usage(9, 5), 20_000, "too_few"),
        (Usage(9, 500), 20_000, "few"),
        (Usage(9, 5_000), 20_000, None),
        (Usage(9, 3), 6, None),
    ],
)
def test_a_report_is_doubted_where_no_tokenizer_makes_so_few_tokens(reported, n_chars, doubt):
    assert doubt_about(reported, n_chars) == doubt


async def test_a_report_of_more_than_can_be_true_is_cut_and_doubted() -> None:
    usage = await told(Usage(10, 3_000), MODEL, BODY)
    assert usage is not None
    assert (usage.completion_tokens, usage.doubt) == (1_000, "too_many")


async def test_a_report_above_what_was_forwarded_counts() -> None:
    usage = await counted_usage(Usage(25, 900), SentCall(MODEL, BODY), PromptCounter(), "hi")
    assert usage == Usage(25, 900, is_estimated=True)


async def test_without_a_report_prompt_and_answer_are_counted_here() -> None:
    instructed = replace(MODEL, system_prompt="Be brief.")
    usage = await counted_usage(None, SentCall(instructed, BODY), PromptCounter(), "hello", 5)
    assert usage.prompt_tokens == worst_prompt_tokens(BODY) + len("Be brief.")
    assert usage.completion_tokens == 10


def test_the_output_of_an_answer_is_all_that_the_model_wrote() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "a", "reasoning": "b", "tool_calls": [call]}
    assert output_of({"choices": [{"message": message}]}) == "abf{}"
    assert output_of({"choices": None}) == ""


def test_pictures_and_sound_have_no_characters() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    message = {"content": "a", "reasoning": "b", "audio": {"data": "AAAA"}, "images": [image]}
    assert chars_of({"choices": [{"message": message}]}) == 2
