"""What a verifier means, case by case: whichever library does the work has to pass them all."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.verifiers.verifiers import (
    MAX_ANSWER_CHARS,
    InvalidVerifier,
    NotVerifiable,
    parse_verifier,
    verify,
)
from router_models.verifiers.written_numbers import plain

HALF_A_PAIR = "\ud800"


def scored(kind: str, answer: str, **fields: Any) -> float:
    return verify(parse_verifier({"kind": kind, **fields}), answer)


FOUND = [
    # flags
    ("(?s)a.b", "a\nb"),
    ("(?s:a.)b", "a\nb"),
    ("(?i)paris", "PARIS"),
    ("(?i:p)aris", "Paris"),
    ("(?m)^b$", "a\nb\nc"),
    ("(?is)moon.*sun", "MOON\nand SUN"),
    ("(?i)ß", "ẞ"),
    # classes
    (r"^\d+$", "0123456789"),
    (r"^\w+$", "aZ_9"),
    (r"^\s+$", " \t\n\r\f"),
    (r"^[[:alpha:]]+$", "abc"),
    (r"^[^a-c]$", "\n"),
    (r"^\pL+$", "naïve\u0391\u0433"),
    (r"^\p{Greek}$", "\u03b2"),
    (r"^\p{Lu}\p{Ll}$", "Éé"),
    # anchors
    (r"\Aab\z", "ab"),
    ("^$", ""),
    ("b$", "a\nb"),
    (r"\b42\b", "it is 42."),
    # Unicode: a character is a character, whatever its bytes
    ("^.$", "\U0001f44d"),
    ("^\U0001f44d+$", "\U0001f44d\U0001f44d"),
    ("[é-ü]", "ö"),
    (r"\x{e9}", "é"),
    ("a\0b", "a\0b"),
    (r"\d", "\u0663 and 3"),
    ("42", "\uff14\uff12"),  # answers are read in their usual forms
    # groups and repetition
    ("(?P<n>a)(?:b|c){2,3}", "abcb"),
    ("a{1000}", "a" * 1000),
    ("x*?y", "xxy"),
    (r"\Qa.b\E", "a.b"),
    (r"\/\-\.", "/-."),
]
NOT_FOUND = [
    ("a.b", "a\nb"),
    ("(?-s)a.b", "a\nb"),
    ("Paris", "PARIS"),
    ("^b$", "a\nb\nc"),
    (r"^\d$", "\u0663"),
    (r"^\w$", "é"),
    (r"\Ab", "a\nb"),
    (r"a\z", "a\n"),
    ("a$", "a\n"),
    (r"\b42\b", "x42"),
    (r"\Qa.b\E", "acb"),
    ("[[:digit:]]", "abc"),
    ("^$", "a"),
]
REFUSED = [
    "(?=a)",
    "(?!a)",
    "(?<=a)b",
    r"(a)\1",
    "(?>a)",
    "a++",
    "(?x)a b",
    "a{1001}",
    "[",
    "(",
    "a)(b",
    "\\",
    "*a",
    r"\pX",
    r"\Z",
    r"\u00e9",
    "(?z)a",
    HALF_A_PAIR,
]


@pytest.mark.parametrize(("pattern", "text"), FOUND)
def test_a_pattern_is_found(pattern: str, text: str) -> None:
    assert scored("regex", text, pattern=pattern) == 1.0


@pytest.mark.parametrize(("pattern", "text"), NOT_FOUND)
def test_a_pattern_is_not_found(pattern: str, text: str) -> None:
    assert scored("regex", text, pattern=pattern) == 0.0


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_the_engine_does_not_know_is_refused_and_never_read_as_something_else(
    pattern: str,
) -> None:
    with pytest.raises(InvalidVerifier, match=r"^pattern: "):
        parse_verifier({"kind": "regex", "pattern": pattern})


@pytest.mark.parametrize(
    ("pattern", "answer", "score"),
    [
        ("a|ab", "ab", 1.0),
        ("a", " a\n", 1.0),
        ("(?m)^a$", "a\nb", 0.0),
        ("(?s)a.*", "a\nb", 1.0),
        ("", "", 1.0),
        ("", "a", 0.0),
    ],
)
def test_the_whole_answer_is_the_match(pattern: str, answer: str, score: float) -> None:
    assert scored("regex", answer, pattern=pattern, is_full=True) == score


@given(st.text(max_size=50).filter(lambda text: plain(text) == text))
def test_a_quoted_text_finds_itself_and_nothing_more(text: str) -> None:
    pattern = "".join(rf"\x{{{ord(c):x}}}" for c in text)
    assert scored("regex", text, pattern=pattern) == 1.0
    assert scored("regex", f"{text}.x", pattern=f"{pattern}.y") == 0.0


@pytest.mark.parametrize(
    ("schema", "answer", "score"),
    [
        ({"pattern": "^a.b$"}, '"a\\nb"', 0.0),
        ({"pattern": r"^\d+$"}, '"\u0663"', 0.0),
        ({"pattern": r"^\p{L}+$"}, '"naïve"', 1.0),
        ({"pattern": "b"}, '"abc"', 1.0),
        ({"patternProperties": {"^x": False}}, '{"xy": 1}', 0.0),
        ({"minLength": 1, "maxLength": 1}, '"\U0001f44d"', 1.0),
        ({"type": "integer"}, "3.0", 1.0),
        ({"type": "integer"}, "1" + "0" * 400, 1.0),
        ({"maximum": 5}, "1" + "0" * 400, 0.0),
        ({"const": 10**30}, str(10**30 + 1), 0.0),
        ({"type": "integer"}, "true", 0.0),
        ({"enum": [1]}, "true", 0.0),
        ({"multipleOf": 0.01}, "0.29", 1.0),
        ({"uniqueItems": True}, "[1, true]", 1.0),
        ({"uniqueItems": True}, "[1, 1.0]", 0.0),
        ({"properties": {"pattern": {"type": "integer"}}}, '{"pattern": 1}', 1.0),
        ({"const": {"pattern": "(?s)"}}, '{"pattern": "(?s)"}', 1.0),
    ],
)
def test_a_schema_means_what_json_schema_says(schema: Any, answer: str, score: float) -> None:
    assert scored("json_schema", answer, schema=schema) == score


@pytest.mark.parametrize("pattern", ["(?s)a.b", "(?i)a", "(?P<n>a)", r"\Aa\z", r"\Qa\E", "(?=a)"])
@pytest.mark.parametrize(
    "place", ["pattern", "patternProperties"], ids=["as a value", "as a property's name"]
)
def test_a_schema_s_pattern_in_another_dialect_is_refused(pattern: str, place: str) -> None:
    inner: Any = {place: pattern if place == "pattern" else {pattern: {}}}
    schema = {"properties": {"a": {"anyOf": [True, inner]}}}

    with pytest.raises(InvalidVerifier, match=r"^schema: "):
        parse_verifier({"kind": "json_schema", "schema": schema})


LONG = "x" * (MAX_ANSWER_CHARS + 1)
BEYOND = [
    ("regex", {"pattern": "x"}, LONG),
    ("json_schema", {"schema": True}, f'"{LONG}"'),
    ("json_schema", {"schema": True}, "[" * 40_000 + "]" * 40_000),
    ("json_schema", {"schema": {"type": "integer"}}, "1" * 5_000),
    ("json_schema", {"schema": {"type": "string"}}, '"\\ud800"'),
    ("math", {"reference": "x"}, rf"\boxed{{{'(' * 30}x{')' * 30}}}"),
    ("math", {"reference": "x"}, rf"\boxed{{{'+x' * 400}}}"),
    ("math", {"reference": "x"}, f"${'x+' * 300}x$"),
    ("math", {"reference": "5"}, "10^{400}/10^{399}"),
    ("math", {"reference": "5"}, "200!/199!"),
    ("math", {"reference": "(1,(1,1))"}, rf"\boxed{{{'(1,' * 30}1{')' * 30}}}"),
]


@pytest.mark.parametrize(("kind", "fields", "answer"), BEYOND, ids=range(len(BEYOND)))
def test_what_is_beyond_a_limit_is_not_called_wrong(kind: str, fields: Any, answer: str) -> None:
    with pytest.raises(NotVerifiable):
        scored(kind, answer, **fields)


@pytest.mark.parametrize(
    ("kind", "fields", "answer"),
    [
        ("math", {"reference": "x"}, "I would say that " + "it depends, " * 60),
        ("math", {"reference": "5"}, "1/0"),
        ("math", {"reference": "5"}, "2.5!"),
        ("numeric", {"reference": 5}, "Answer: 1e999, not 5"),
        ("numeric", {"reference": 5}, "9" * 400),
        ("numeric", {"reference": 5}, rf"\frac{{{'7' * 40}}}{{5}}"),
        ("exact", {"reference": "a"}, HALF_A_PAIR),
        ("regex", {"pattern": "^a"}, HALF_A_PAIR + "a"),
        ("json_schema", {"schema": True}, "[NaN]"),
    ],
)
def test_what_is_wrong_at_any_length_is_wrong(kind: str, fields: Any, answer: str) -> None:
    assert scored(kind, answer, **fields) == 0.0
