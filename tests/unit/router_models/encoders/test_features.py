import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.encoders.features import (
    _MARK_CUES,
    _WORD_CUES,
    FEATURE_NAMES,
    CheapFeatures,
    cap_text,
    raw_features,
)
from router_models.errors import ArtifactRejected

N = len(FEATURE_NAMES)
any_text = st.text(st.characters(codec=None), max_size=4_000)


def feature(name: str, text: str) -> float:
    return float(raw_features(cap_text(text))[FEATURE_NAMES.index(name)])


def scaled(**changes) -> CheapFeatures:
    return CheapFeatures(
        **{"mean": np.zeros(N, np.float32), "deviation": np.ones(N, np.float32), **changes}
    )


def test_a_text_of_3000_characters_is_left_alone() -> None:
    assert cap_text("x" * 3_000) == "x" * 3_000


def test_a_longer_text_keeps_its_head_and_its_tail() -> None:
    assert cap_text("a" * 2_000 + "b" * 500 + "c" * 1_000) == "a" * 2_000 + "c" * 1_000


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert cap_text("é\ud800") == "é?"


@given(any_text)
def test_capping_twice_changes_nothing(text: str) -> None:
    assert cap_text(cap_text(text)) == cap_text(text)


@given(any_text)
def test_every_feature_of_every_text_is_a_modest_number(text: str) -> None:
    values = raw_features(cap_text(text))
    assert values.shape == (N,)
    assert values.dtype == np.float32
    assert np.all((values >= 0) & (values <= 14))


def test_an_empty_text_has_one_line_and_nothing_else() -> None:
    values = raw_features("")
    assert [FEATURE_NAMES[i] for i in np.flatnonzero(values)] == ["lines"]


def test_feature_names_are_distinct() -> None:
    assert len(set(FEATURE_NAMES)) == N


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("code_fence", "fix this:\n```py\nx\n```"),
        ("code", "def area(r): return r * r"),
        ("latex", r"Simplify \frac{1}{2}"),
        ("list", "Rules:\n- one\n- two"),
        ("structured_answer", "Answer as JSON"),
        ("which_of", "Which of the following is a metal?"),
        ("step_by_step", "Think step by step."),
        ("rewrite", "Summarise this"),
        ("how_many", "How many apples are left?"),
        ("prove", "Prove Fermat's little theorem"),
        ("geometry", "The triangle ABC has a right angle"),
        ("medicine", "A patient with a rare disease"),
        ("foreign", "was ist der Sinn und Zweck"),
        ("accented_latin", "¿Cuántos años?"),
        ("greek_or_cyrillic", "Сколько будет два плюс два"),
        ("hebrew_or_arabic", "كم عدد"),
        ("kana_or_cjk", "二足す二はいくつ"),
        ("hangul", "둘 더하기 둘"),
        ("dollar", "It costs $5"),
    ],
)
def test_a_telling_mark_shows_in_its_feature(name: str, text: str) -> None:
    assert feature(name, text) > 0
    assert feature(name, "hello there") == 0


@pytest.mark.parametrize(
    "text", ["Pick:\nA. x\nB. y\nC. z", "A) x\nB) y\nC) z", "Pick\n(A) x\n(B) y\n(C) z"]
)
def test_counts_the_options_however_they_are_lettered(text: str) -> None:
    assert feature("options", text) == pytest.approx(np.log1p(3))


def test_a_long_word_of_many_digits_stays_finite() -> None:
    assert feature("number_largest", "9" * 3_000) == pytest.approx(np.log1p(1e6))
    assert feature("number_longest", "9" * 3_000) == pytest.approx(np.log1p(3_000))


def test_a_word_that_serves_two_cues_counts_for_both() -> None:
    assert feature("calculate", "solve") > 0
    assert feature("algebra", "solve") > 0


marks = st.sampled_from([mark for _, members in _MARK_CUES for mark in members])


@given(st.lists(marks | st.text(max_size=5), max_size=20).map("".join))
def test_every_mark_is_counted_wherever_it_stands(text: str) -> None:
    lowered = cap_text(text).lower()
    expected = [sum(map(lowered.count, members)) for _, members in _MARK_CUES]
    found = [feature(name, text) for name, _ in _MARK_CUES]
    np.testing.assert_allclose(found, np.log1p(expected), rtol=1e-6)


cue_words = st.sampled_from([word for _, members in _WORD_CUES for word in members.split()])


@given(st.lists(cue_words | st.sampled_from(["Hello", "3", "É"]), max_size=20))
def test_every_word_is_counted_for_its_cues_each_time(words: list[str]) -> None:
    expected = [sum(word in members.split() for word in words) for _, members in _WORD_CUES]
    found = [feature(name, ", ".join(words)) for name, _ in _WORD_CUES]
    np.testing.assert_allclose(found, np.log1p(expected), rtol=1e-6)


def test_of_several_numbers_each_is_read_to_ten_characters() -> None:
    text = "7 pens, 0000000000123 and 12.5"
    assert feature("number_largest", text) == pytest.approx(np.log1p(12.5))
    assert feature("number_longest", text) == pytest.approx(np.log1p(13))
    assert feature("numbers", text) == pytest.approx(np.log1p(3))


def test_the_features_of_a_known_query_stay_as_the_shipped_encoders_were_built() -> None:
    values = raw_features("If 3 pens cost $4.50, how many cents is one pen?\nA) 150\nB) 15")
    shown = {
        name: round(float(value), 3)
        for name, value in zip(FEATURE_NAMES, values, strict=True)
        if value
    }
    assert shown == EXPECTED, "a changed feature needs a new encoder id and a rebuild"


EXPECTED = {
    "chars": 4.127,
    "words": 2.773,
    "lines": 1.386,
    "chars_per_word": 1.623,
    "chars_per_line": 3.06,
    "numbers": 1.609,
    "number_longest": 1.609,
    "number_largest": 5.017,
    "options": 1.099,
    "distinct_words": 2.485,
    "lower": 0.689,
    "upper": 0.222,
    "digit": 0.384,
    "space": 0.444,
    "newline": 0.181,
    "period": 0.128,
    "comma": 0.128,
    "question_mark": 0.128,
    "parenthesis": 0.181,
    "dollar": 0.128,
    "why_how": 0.693,
    "how_many": 0.693,
    "money": 0.693,
}


def test_features_are_standardised_clipped_and_of_the_norm_of_an_embedding() -> None:
    wide = scaled(deviation=np.full(N, 1e-6, np.float32))
    (row,) = wide.compute(["2 + 2"])
    assert np.abs(row).max() == pytest.approx(4 / np.sqrt(N))
    (mean,) = scaled(mean=raw_features("2 + 2")).compute(["2 + 2"])
    np.testing.assert_array_equal(mean, np.zeros(N))


def test_no_texts_give_no_rows() -> None:
    assert scaled().compute([]).shape == (0, N)


@pytest.mark.parametrize("name", ["mean", "deviation"])
def test_constants_of_another_number_of_features_are_refused(name: str) -> None:
    with pytest.raises(ArtifactRejected, match="rebuild the encoders"):
        scaled(**{name: np.ones(3, np.float32)})


def test_a_deviation_of_zero_is_refused() -> None:
    with pytest.raises(ArtifactRejected, match="positive"):
        scaled(deviation=np.zeros(N, np.float32))
