import asyncio
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budgets.prompt_tokens import (
    FILE_TOKENS,
    LONG_TOKENS,
    MARGIN,
    MESSAGE_TOKENS,
    REQUEST_TOKENS,
    TOOLS_TOKENS,
    USUAL_IMAGE_TOKENS,
    USUAL_MARGIN,
    PromptCounter,
    find_tokenizer,
    worst_prompt_tokens,
)
from gateway.budgets.surplus import HOSTS_OWN_TOKENS, IMAGE_TOKENS, Surpluses
from gateway.types import Capabilities
from tests.fakes.budgets import hosted
from tests.fakes.patience import PATIENCE_S

TEAM = "blue"
OWN = [replace(hosted(), upstream_name="gpt-4o")]
EMPTY = REQUEST_TOKENS + MESSAGE_TOKENS + len("user")
REAL_TEXTS = {
    "english": "The quick brown fox jumps over the lazy dog. " * 40,
    "chinese": "我能吞下玻璃而不伤身体。今天天气很好,我们去公园散步吧。" * 40,
    "japanese": "吾輩は猫である。名前はまだ無い。どこで生れたか頓と見當がつかぬ。" * 40,
    "korean": "나는 유리를 먹을 수 있어요. 그래도 아프지 않아요. " * 40,
    "thai": "ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ" * 40,
    "arabic with ligatures": "\ufdfa \ufdfb صلى الله عليه وسلم " * 40,
    "emoji": "👨‍👩‍👧‍👦🏴‍☠️🙂‍↔️🇪🇺" * 40,
    "hindi": "मैं काँच खा सकता हूँ और मुझे उससे कोई चोट नहीं पहुंचती. " * 40,
    "tamil": "நான் கண்ணாடி சாப்பிடுவேன், அதனால் எனக்கு ஒரு கேடும் வராது. " * 40,
    "german": "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. " * 40,
    "numbers": ", ".join(str(n * n * n) for n in range(800)),
    "code": Path(__file__).read_text("utf-8"),
    "hexadecimal": "".join(f"{n * 2654435761 % 2**32:08x}" for n in range(400)),
    "rare letters": "".join(map(chr, range(0x10000, 0x10800))),
    "white space": " \t\n\r\u3000" * 300,
    "marks of a chat template": "<|im_start|>system<|endoftext|>" * 40,
}


@pytest.fixture(scope="module", params=["o200k_base", "cl100k_base", "voyage3_base"])
def count(request: pytest.FixtureRequest):
    """Tokenizers of three families; the last splits numbers into digits."""
    found = find_tokenizer(request.param)
    assert found is not None, "pip install 'waypost[dev]'"
    return found


@pytest.fixture(scope="module")
def o200k():
    found = find_tokenizer()
    assert found is not None, "pip install 'waypost[dev]'"
    return found


def asked(content: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("name", sorted(REAL_TEXTS))
def test_the_bound_is_never_below_a_tokenizer_on_real_texts(name: str, count) -> None:
    text = REAL_TEXTS[name]
    assert worst_prompt_tokens(asked(text)) >= EMPTY + count(text)


@given(st.text())
def test_the_bound_is_never_below_a_tokenizer_on_any_text(count, text: str) -> None:
    assert worst_prompt_tokens(asked(text)) >= EMPTY + count(text)


def test_the_bound_covers_tokenizers_that_normalise_first() -> None:
    assert worst_prompt_tokens(asked("\ufdfa")) == EMPTY + 33  # three bytes as sent


def test_the_bound_survives_half_a_surrogate_pair() -> None:
    assert worst_prompt_tokens(asked("\ud83d")) == EMPTY + 3


def test_text_parts_count_like_text() -> None:
    parts = [{"type": "text", "text": "abc"}, {"type": "input_text", "text": "é"}]
    assert worst_prompt_tokens(asked(parts)) == EMPTY + 5


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}},
            IMAGE_TOKENS,
        ),
        ({"type": "input_image", "image_url": "https://example.com/cat.png"}, IMAGE_TOKENS),
        ({"type": "input_audio", "input_audio": {"data": "A" * 41, "format": "mp3"}}, 2),
        ({"type": "file", "file": {"file_id": "file-1"}}, FILE_TOKENS),
        ({"type": "file", "file": {"file_data": "A" * 60_000}}, 60_000),
        ({"type": "file", "pages": 3}, FILE_TOKENS),
        ("plain", 5),
        (7, 0),
    ],
)
def test_parts_that_are_no_text_have_their_own_price(part: object, tokens: int) -> None:
    assert worst_prompt_tokens(asked([part])) == EMPTY + tokens


def test_parts_of_an_unknown_kind_count_as_json() -> None:
    part = {"type": "refusal", "refusal": "I cannot help with that."}
    assert worst_prompt_tokens(asked([part])) > EMPTY + len("I cannot help with that.")


def test_counts_tools_and_everything_else_a_model_may_be_shown() -> None:
    plain = asked("hi")
    tool = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {}}}
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": tool}]}
    grown = [
        plain,
        plain | {"response_format": schema},
        plain | {"response_format": schema, "documents": [{"text": "x" * 100}]},
        plain | {"response_format": schema, "tools": [tool]},
    ]
    assert all(
        worst_prompt_tokens(less) < worst_prompt_tokens(more) for less, more in pairwise(grown)
    )
    assert worst_prompt_tokens(plain | {"tools": [tool]}) > EMPTY + TOOLS_TOKENS
    assert worst_prompt_tokens(plain | {"tools": []}) == worst_prompt_tokens(plain)
    assert worst_prompt_tokens({"messages": [called]}) > REQUEST_TOKENS + len(str(tool)) // 2


def test_settings_are_no_prompt() -> None:
    settings = {"user": "u" * 50, "metadata": {"a": "b"}, "temperature": 1, "stop": ["x"], "n": 2}
    assert worst_prompt_tokens(asked("hi") | settings) == worst_prompt_tokens(asked("hi"))


def test_embeddings_and_completions_are_prompts_too() -> None:
    assert worst_prompt_tokens({"input": "abc"}) == REQUEST_TOKENS + 3
    assert worst_prompt_tokens({"input": ["abc", "d"]}) == REQUEST_TOKENS + 2 * MESSAGE_TOKENS + 4
    assert worst_prompt_tokens({"input": [1, 2, 3]}) == REQUEST_TOKENS + 3
    assert worst_prompt_tokens({"input": [[1, 2], [3]]}) == REQUEST_TOKENS + 2 * MESSAGE_TOKENS + 3


async def test_short_prompts_are_bounded_without_a_tokenizer() -> None:
    def count(text: str) -> int:
        raise AssertionError("counted")

    counter = PromptCounter(count)
    assert await counter.bound(asked("hi"), OWN, TEAM) == worst_prompt_tokens(asked("hi"))


@pytest.mark.parametrize("name", sorted(REAL_TEXTS))
async def test_the_count_is_never_below_the_models_tokenizer(name: str, o200k) -> None:
    text = REAL_TEXTS[name] * 3
    counter = PromptCounter(o200k)
    assert await counter.bound(asked(text), OWN, TEAM) >= EMPTY + o200k(text)
    assert o200k(text) <= await counter.bound_text(text, "gpt-4o") <= len(text.encode()) * 6


@pytest.mark.parametrize("name", sorted(REAL_TEXTS))
async def test_an_answer_of_any_other_model_is_bounded_by_its_bytes(name, count, o200k) -> None:
    text = REAL_TEXTS[name] * 3
    bound = await PromptCounter(o200k).bound_text(text, "llama-4")
    assert max(count(text), len(text.encode())) <= bound


async def test_long_prompts_are_counted_with_a_margin(o200k) -> None:
    text = REAL_TEXTS["english"] * 100
    counted = await PromptCounter(o200k).bound(asked(text), OWN, TEAM)
    tokens = o200k(text)
    assert EMPTY + tokens <= counted < worst_prompt_tokens(asked(text)) / 2
    assert counted == pytest.approx(MARGIN * tokens, rel=0.01)


@pytest.mark.parametrize("name", sorted(REAL_TEXTS))
async def test_the_count_is_never_above_the_bound(name: str, o200k) -> None:
    body = asked(REAL_TEXTS[name] * 5)
    counted = await PromptCounter(o200k, margin=9.0).bound(body, OWN, TEAM)
    assert counted <= worst_prompt_tokens(body)


async def test_counts_off_the_event_loop() -> None:
    started, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def count(text: str) -> int:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(PATIENCE_S)
        return 1

    prompt = asked("x" * LONG_TOKENS)
    waiting = asyncio.create_task(PromptCounter(count).bound(prompt, OWN, TEAM))
    await started.wait()
    release.set()
    assert await waiting < LONG_TOKENS


SEEING = replace(hosted(), upstream_name="gpt-4o-mini")
LOOK = {"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "image_url"}]}]}
READ = {"messages": [{"role": "user", "content": [{"type": "file"}]}]}


@pytest.mark.parametrize(
    ("body", "reads", "learned"), [(asked("hi"), 700, 700), (LOOK, 9_001, 9_002), (READ, 5, 5)]
)
async def test_what_a_host_reads_beyond_the_bound_is_held_for_the_next(body, reads, learned):
    counter, models = PromptCounter(), [hosted(), hosted("other")]
    bound = await counter.bound(body, models, TEAM)
    charged = partial(counter.charged_of, bound + reads, body, models[0], TEAM, added=0)
    assert await charged(held=bound) == bound
    assert await counter.bound(body, models, TEAM) == bound + learned
    assert await counter.bound(body, models[1:], TEAM) == bound
    assert await charged(held=bound + learned) == bound + reads


async def test_what_a_host_reads_in_one_teams_prompts_is_not_held_for_others() -> None:
    counter, models = PromptCounter(), [hosted()]
    bound = await counter.bound(LOOK, models, TEAM)
    await counter.charged_of(bound + 90_000, LOOK, models[0], TEAM, added=0, held=bound)

    assert await counter.bound(LOOK, models, TEAM) > bound + 80_000
    assert await counter.bound(LOOK, models, "another") == bound


def test_of_many_teams_those_are_remembered_that_asked_last() -> None:
    surpluses = Surpluses(max_known=2)
    for team in ("a", "b", "a", "c"):
        surpluses.of(hosted(), team).own += 1
    owns = [surpluses.of(hosted(), team).own for team in ("a", "c", "b")]
    assert owns == [2, 1, 0]


async def test_no_claim_makes_more_be_held_than_can_be_true() -> None:
    counter = PromptCounter()
    bound = await counter.bound(asked("hi"), [hosted()], TEAM)
    claim = counter.charged_of(2**31, asked("hi"), hosted(), TEAM, added=0, held=bound)
    assert await claim == bound
    assert await counter.bound(asked("hi"), [hosted()], TEAM) == bound + HOSTS_OWN_TOKENS
    assert await counter.bound(LOOK, [hosted()], TEAM) < 2 * IMAGE_TOKENS + 3_000


async def test_a_model_that_reads_large_images_is_held_for_them_from_the_first() -> None:
    assert await PromptCounter().bound(LOOK, [SEEING], TEAM) > 2 * 48_169


async def test_a_file_may_fill_the_context() -> None:
    models = [hosted(capabilities=Capabilities(context_tokens=n)) for n in (200_000, None)]
    assert await PromptCounter().bound(READ, models, TEAM) == 200_000


async def test_without_a_tokenizer_long_prompts_are_bounded() -> None:
    body = asked("x" * LONG_TOKENS)
    assert await PromptCounter(None).bound(body, OWN, TEAM) == worst_prompt_tokens(body)


async def test_an_estimate_is_near_what_models_read(o200k) -> None:
    text = REAL_TEXTS["english"]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

    estimated = await PromptCounter(o200k).estimate_prompt(asked(text))
    by_length = await PromptCounter(None).estimate_prompt(asked(text))
    seen = await PromptCounter(o200k).estimate_prompt(asked([image]))

    tokens = o200k(text)
    assert estimated == pytest.approx(USUAL_MARGIN * tokens, rel=0.1)
    assert tokens < by_length < 2 * tokens
    assert USUAL_IMAGE_TOKENS <= seen < USUAL_IMAGE_TOKENS + 100


def test_a_missing_tokenizer_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert find_tokenizer() is None


def test_a_tokenizer_without_its_compiled_part_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bpe_openai").mkdir()
    (tmp_path / "bpe_openai" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_tokenizer() is None
