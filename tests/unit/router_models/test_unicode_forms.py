import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from router_models.unicode_forms import LONGEST_RUN, _marks_below, _marks_of, divided, nfkc

MARKS = "\u0315\u0300\uff9e\u0344\U0001d165"


def longest_run(text: str) -> int:
    """Count the marks in a row, after they are decomposed one by one."""
    longest = run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) else 0
        longest = max(longest, run)
    return longest


@given(st.text(max_size=200))
def test_ordinary_text_is_normalised_as_unicode_has_it(text: str) -> None:
    assert nfkc(text) == unicodedata.normalize("NFKC", text)


@given(
    st.lists(st.tuples(st.text("a\u00e9\ud55c", max_size=2), st.integers(0, 30)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_runs_of_marks_up_to_thirty_are_left_as_they_are(runs, random) -> None:
    text = "".join(letters + "".join(random.choices(MARKS, k=n)) + "." for letters, n in runs)
    assert divided(text) is text


@given(st.text("a" + MARKS, min_size=31), st.integers(0, 100), st.integers(31, 200))
def test_no_run_of_marks_stays_longer(text: str, before: int, n_marks: int) -> None:
    safe = divided("b" * before + "\u0301" * n_marks + text)
    assert longest_run(safe) <= LONGEST_RUN
    assert safe.replace("\u034f", "") == "b" * before + "\u0301" * n_marks + text


def test_the_planes_without_marks_are_left_out_rightly() -> None:
    others = map(chr, range(0x20000, 0x110000))
    assert not any(unicodedata.combining(unicodedata.normalize("NFKD", c)[0]) for c in others)


def test_every_mark_is_known_and_nothing_else() -> None:
    characters = [chr(n) for n in range(0x80, 0x20000)]
    are_marks = [unicodedata.combining(unicodedata.normalize("NFKD", c)[0]) > 0 for c in characters]
    assert [divided(c * 31) != c * 31 for c in characters] == are_marks


def test_the_first_text_of_a_language_does_not_wait_for_the_marks_of_all_others() -> None:
    _marks_of.cache_clear()
    _marks_below.cache_clear()
    divided("\u00e9t\u00e9")
    assert _marks_of.cache_info().currsize == 1


@given(st.text("a" + MARKS, max_size=200))
def test_divided_text_never_has_fewer_bytes_than_the_whole_one(text: str) -> None:
    whole = unicodedata.normalize("NFKC", text)
    assert len(nfkc(text).encode()) >= len(whole.encode())
