import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.verifiers.final_answers import extract_final_answer
from router_models.verifiers.verifiers import (
    MAX_ANSWER_CHARS,
    InvalidVerifier,
    parse_verifier,
    verify,
)

LETTERS = {"A": "red", "B": "dark blue"}
YES_NO = ["yes", "no"]


def scored(kind: str, answer: str, **fields: Any) -> float:
    return verify(parse_verifier({"kind": kind, **fields}), answer)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("x²+1", 1.0),
        ("The answer is $1+x^2$.", 1.0),
        (r"First $x+1$, so \boxed{x\cdot x+1}", 1.0),
        ("As $x+1$ shows, it is $1+x^2$", 1.0),
        ("x = 3\nx^2+1", 1.0),
        ("x+1", 0.0),
        ("I do not know :-(", 0.0),
        (r"\boxed{x^2+1} and \boxed{x}", 0.0),
    ],
)
def test_mathematics_is_compared_by_what_it_means(answer: str, score: float) -> None:
    assert scored("math", answer, reference="x^2 + 1") == score


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("42", "42"),
        ("42", "The answer is 42."),
        ("42", "42.0"),
        (42, "6 * 7 = 42"),
        ("1,000", "1000"),
        ("1234", "So $1,234 in total"),
        ("1234567", "1,234,567"),
        ("2.5", "$2.50"),
        (0.5, ".5"),
        (1e6, "1e6"),
        ("3/4", "0.75"),
        ("0.75", r"\frac{3}{4}"),
        ("0.75", r"\dfrac{3}{4}"),
        (-0.75, r"-\frac{3}{4}"),
        (0.5, "50%"),
        (50, "50 %"),
        ("50%", "50"),
        ("50%", "0.5"),
        ("50%", r"50\%"),
        (-3, "Answer: -3"),
        (-3, "x = \u22123"),
        (-6, "(-6)"),
        (5, "10-5"),
        (22, "2024-11-22"),
        (7, "The answer is 3 + 4 = 7"),
        (7, "Answer: 7 apples, of 12"),
        (5, r"\boxed{5}, and not 9"),
        (5, r"\boxed{x=5}"),
        (5, r"first \boxed{4}, no: \boxed{\text{cost } 5}"),
        (5, "**Answer:** 5"),
        (5, "Answer: **5**"),
        (5, "The answer is:\n5"),
        (72, "so 24+48 is it\n#### 72"),
        (8, "The answer: unclear, but I count 8"),
        (42, "\uff14\uff12"),
        (8, "a) 3\nb) 8"),
    ],
)
def test_finds_the_number_an_answer_means(reference: str | float, answer: str) -> None:
    assert scored("numeric", answer, reference=reference) == 1.0


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (42, "no number"),
        (42, ""),
        (42, "GPT42 says so"),
        (6, "-6"),
        ("50%", "0.5%"),
        (0.333, "1/3"),
        (4, "4/0"),
        (5, "Answer: 6, not 5"),
        (5, r"\boxed{6"),
        (1, "1e999"),
    ],
)
def test_another_number_scores_nothing(reference: str | float, answer: str) -> None:
    assert scored("numeric", answer, reference=reference) == 0.0


def test_tolerance_is_relative_above_one_and_absolute_below() -> None:
    assert scored("numeric", "101", reference=100, tolerance=0.01) == 1.0
    assert scored("numeric", "101.1", reference=100, tolerance=0.01) == 0.0
    assert scored("numeric", "0.109", reference=0.1, tolerance=0.01) == 1.0
    assert scored("numeric", "0.111", reference=0.1, tolerance=0.01) == 0.0


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_equals_itself_however_it_is_framed(value: float) -> None:
    written = f"{value:.6f}"
    for answer in (written, f"Step 1 of 2.\nAnswer: {written}", rf"\boxed{{{written}}}"):
        assert scored("numeric", answer, reference=written) == 1.0


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_integers_are_equal_exactly_when_they_are(reference: int, answer: int) -> None:
    expected = float(reference == answer)
    assert scored("numeric", f"It is {answer:,}.", reference=reference, tolerance=0) == expected


@given(st.text(max_size=300))
def test_any_text_can_be_scored_by_any_verifier(answer: str) -> None:
    for table in (
        {"kind": "numeric", "reference": 3},
        {"kind": "exact", "reference": "a"},
        {"kind": "choice", "reference": "B"},
        {"kind": "choice", "reference": "B", "choices": LETTERS},
        {"kind": "choice", "reference": "yes", "choices": YES_NO},
        {"kind": "json_schema", "schema": {"type": "object"}},
        {"kind": "regex", "pattern": "a+", "is_full": True},
    ):
        assert 0.0 <= verify(parse_verifier(table), answer) <= 1.0


@pytest.mark.parametrize(
    "answer", ["Paris", " paris. ", '"Paris"', "**Paris**", "The answer is Paris.", "answer: PARIS"]
)
def test_exact_ignores_case_space_and_wrapping(answer: str) -> None:
    assert scored("exact", answer, reference="Paris") == 1.0


def test_exact_wants_the_whole_answer() -> None:
    assert scored("exact", "Paris is big", reference="Paris") == 0.0


def test_exact_takes_any_of_several_references() -> None:
    assert scored("exact", "one half", reference=["1/2", "one half"]) == 1.0


def test_exact_can_keep_the_case() -> None:
    assert scored("exact", "PARIS", reference="paris", case_sensitive=True) == 0.0
    assert scored("exact", "paris", reference="paris", case_sensitive=True) == 1.0


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N"]), min_size=1))
def test_a_reference_is_its_own_exact_answer(reference: str) -> None:
    assert scored("exact", f"  {reference}.\n", reference=reference) == 1.0


@pytest.mark.parametrize(
    ("reference", "answer", "choices"),
    [
        ("B", "B", None),
        ("B", "(B)", None),
        ("B", "B. dark blue", LETTERS),
        ("B", "The answer is (B).", None),
        ("B", "Answer: **B**", None),
        ("B", "Answer: B) because of A", None),
        ("B", "It is dark blue", LETTERS),
        ("B", "I weighed (A) but take (B)", None),
        ("B", "option B is right", None),
        ("yes", "Yes, they do. There is no doubt.", YES_NO),
        ("no", "**No**", YES_NO),
        ("no", "I think no", YES_NO),
        ("no", "The answer is no because yes is wrong", YES_NO),
        ("yes", "Yes they do", YES_NO),
    ],
)
def test_finds_the_choice_an_answer_makes(reference: str, answer: str, choices: Any) -> None:
    fields = {} if choices is None else {"choices": choices}
    assert scored("choice", answer, reference=reference, **fields) == 1.0


@pytest.mark.parametrize(
    ("reference", "answer", "choices"),
    [
        ("A", "A dog barks", LETTERS),
        ("A", "red or dark blue", LETTERS),
        ("yes", "nope", YES_NO),
        ("B", "Answer: A", LETTERS),
        ("B", "", LETTERS),
    ],
)
def test_does_not_guess_a_choice(reference: str, answer: str, choices: Any) -> None:
    assert scored("choice", answer, reference=reference, choices=choices) == 0.0


SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.mark.parametrize(
    "answer",
    ['{"age": 3}', 'Here it is:\n```json\n{"age": 3}\n```\nDone.', '```\n{"age": 3, "b": 1}\n```'],
)
def test_accepts_json_that_the_schema_admits(answer: str) -> None:
    assert scored("json_schema", answer, schema=SCHEMA) == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        '{"age": "3"}',
        "{}",
        '{"age": 3',
        '{"age": NaN}',
        'It is {"age": 3}',
        '```\n{"age": 3}\n```\n```\n{"age": 3}\n```',
    ],
)
def test_refuses_json_that_it_does_not(answer: str) -> None:
    assert scored("json_schema", answer, schema=SCHEMA) == 0.0


def test_a_schema_may_be_a_truth_value() -> None:
    assert scored("json_schema", "1", schema=True) == 1.0
    assert scored("json_schema", "1", schema=False) == 0.0


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**53), 2**53), max_size=4))
def test_json_fits_the_constant_it_came_from(value: dict[str, int]) -> None:
    assert scored("json_schema", json.dumps(value), schema={"const": value}) == 1.0


def test_a_pattern_is_found_anywhere_unless_it_must_be_the_whole_answer() -> None:
    assert scored("regex", "say 3, 7", pattern=r"\b3,\s*7\b") == 1.0
    assert scored("regex", "say 3, 7", pattern=r"3,\s*7", is_full=True) == 0.0
    assert scored("regex", " 3, 7\n", pattern=r"3,\s*7|never", is_full=True) == 1.0


def test_a_catastrophic_pattern_takes_linear_time() -> None:
    assert scored("regex", "a" * 50_000 + "b", pattern="^(a+)+$") == 0.0


def test_reads_the_end_of_a_very_long_answer() -> None:
    assert scored("numeric", "1 " * MAX_ANSWER_CHARS + "2", reference=2) == 1.0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "verifier: must be an object"),
        ({}, "kind: None is none of"),
        ({"kind": "magic"}, "kind: 'magic' is none of"),
        ({"kind": "numeric"}, "reference: is missing"),
        ({"kind": "numeric", "reference": "many"}, "reference: 'many' is not a number"),
        ({"kind": "numeric", "reference": None}, "reference: None is not a number"),
        ({"kind": "numeric", "reference": True}, "reference: True is not a number"),
        ({"kind": "numeric", "reference": float("inf")}, "reference: inf is not a number"),
        ({"kind": "numeric", "reference": 1, "tolerance": "x"}, "tolerance: must be a number"),
        ({"kind": "numeric", "reference": 1, "tolerance": -1}, "tolerance: must be zero or more"),
        ({"kind": "exact", "reference": 3}, "wrong type"),
        ({"kind": "exact", "reference": []}, "reference: needs at least one answer"),
        ({"kind": "exact", "reference": ""}, "reference: must not be empty"),
        ({"kind": "exact", "reference": [1]}, "reference: must be text"),
        ({"kind": "exact", "reference": "a", "extra": 1}, "extra: unknown field"),
        ({"kind": "exact", "reference": "a", "case_sensitive": 1}, "must be true or false"),
        ({"kind": "choice", "reference": "Z"}, "reference: 'Z' is not in `choices`"),
        ({"kind": "choice", "reference": "a", "choices": "abc"}, "choices: must be a list"),
        ({"kind": "choice", "reference": "a", "choices": 3}, "wrong type"),
        (
            {"kind": "choice", "reference": "1", "choices": [str(n) for n in range(257)]},
            "choices: are more than 256",
        ),
        (
            {"kind": "choice", "reference": "A", "choices": {"A": "a" * 1001}},
            "choices: must be texts of at most 1000 characters",
        ),
        ({"kind": "choice", "reference": "A", "choices": {"A": 1}}, "choices: must be texts"),
        ({"kind": "json_schema", "schema": {"enum": [{1}]}}, "schema: this is no JSON"),
        ({"kind": "math", "reference": 3}, "reference: must be text"),
        ({"kind": "math", "reference": "x^"}, "reference: 'x^': something is missing"),
        ({"kind": "regex", "pattern": 3}, "pattern: must be text"),
        ({"kind": "regex", "pattern": "(?=a)"}, "pattern: "),
        ({"kind": "regex", "pattern": "a)(b", "is_full": True}, "pattern: "),
        ({"kind": "regex", "pattern": "a" * 1001}, "pattern: exceeds 1000"),
        ({"kind": "json_schema", "schema": {"type": "odd"}}, "schema: "),
        ({"kind": "json_schema", "schema": 3}, "wrong type"),
        (
            {"kind": "json_schema", "schema": {"$ref": "http://127.0.0.1:9/x"}},
            "a verifier does not fetch",
        ),
    ],
)
def test_a_wrong_table_is_refused_with_the_field_at_fault(table: Any, message: str) -> None:
    with pytest.raises(InvalidVerifier) as refusal:
        parse_verifier(table)
    assert message in str(refusal.value)


def test_the_last_box_is_the_final_answer_even_with_braces_inside() -> None:
    assert extract_final_answer(r"\boxed{1} then \boxed{\frac{1}{2}} end") == r"\frac{1}{2}"


def test_an_answer_ends_with_its_line() -> None:
    assert extract_final_answer("Answer: yes, sir\nBecause it is.") == "yes, sir"


def test_there_may_be_no_final_answer() -> None:
    assert extract_final_answer("I do not know") is None
    assert extract_final_answer("Answer:") is None
