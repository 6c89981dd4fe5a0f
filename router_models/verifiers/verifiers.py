"""Checks an answer against a known result: the reward of calibration, graders and training.

One verifier is a small table, ``{"kind": "numeric", "reference": "42"}``; its kinds and fields are
those of the classes below. The same answer always scores the same, whichever versions of libraries
are installed: `tests/unit/router_models/test_verifier_cases.py` pins what each kind means. An
answer that is beyond what a verifier can check is neither right nor wrong: `NotVerifiable`.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar

from router_models.unicode_forms import nfkc
from router_models.verifiers.expressions import BeyondLimits, NotMaths
from router_models.verifiers.final_answers import extract_final_answer
from router_models.verifiers.maths import MAX_CHARS, Maths, is_equivalent, parse_maths
from router_models.verifiers.patterns import admits, check_regex, check_schema, matches
from router_models.verifiers.written_numbers import Number, find_numbers, parse_number, plain

MAX_ANSWER_CHARS = 100_000
MAX_PATTERN_CHARS = 1_000
MAX_CHOICES = 256
MAX_CHOICE_CHARS = 1_000

_MATH_SPAN = re.compile(r"\$([^$]+)\$")
_FENCE = re.compile(r"```[a-zA-Z]{0,10}[ \t]*\n(.*?)```", re.DOTALL)
_WRAPPING = " \t\r\n\"'`*_.!\u201c\u201d\u2018\u2019"


class InvalidVerifier(ValueError):
    """A verifier's table cannot be used; the message names the field."""


class NotVerifiable(ValueError):
    """An answer cannot be checked, and the message says which limit it met; it has no score."""


@dataclass(frozen=True, slots=True)
class ExactSpec:
    """The answer, or the part after "Answer:", is the reference after normalisation.

    Attributes:
        reference: Accepted answer, or several.
        case_sensitive: Compare letter case as well.
    """

    kind: ClassVar[str] = "exact"
    reference: str | Sequence[str]
    case_sensitive: bool = False

    def __post_init__(self) -> None:
        _require(all(self.references), "reference", "must not be empty")
        _require(self.references, "reference", "needs at least one answer")
        for reference in self.references:
            _require(isinstance(reference, str), "reference", "must be text or a list of texts")

    @property
    def references(self) -> tuple[str, ...]:
        """All accepted answers."""
        return (self.reference,) if isinstance(self.reference, str) else tuple(self.reference)


@dataclass(frozen=True, slots=True)
class NumericSpec:
    r"""The answer's number equals the reference.

    The number is the one in the last ``\boxed{}``, else the one after the last "Answer:", else
    the last of the text. ``1,234``, ``$3.50``, ``3/4``, ``\frac{3}{4}``, ``1e6`` and percentages
    are read; ``50%`` equals both 50 and 0.5, as questions leave open which is meant.

    Attributes:
        reference: A number, or text in one of those forms.
        tolerance: Largest difference, relative to the reference where that exceeds 1.
    """

    kind: ClassVar[str] = "numeric"
    reference: str | float
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        _require(_is_number(self.tolerance), "tolerance", "must be a number")
        _require(0 <= self.tolerance < math.inf, "tolerance", "must be zero or more")
        _require(self.number is not None, "reference", f"{self.reference!r} is not a number")

    @property
    def number(self) -> Number | None:
        """The reference as a number."""
        number = None
        if isinstance(self.reference, str):
            number = parse_number(self.reference)
        elif _is_number(self.reference):
            number = Number(float(self.reference))
        return number if number is not None and math.isfinite(number.value) else None


@dataclass(frozen=True, slots=True)
class ChoiceSpec:
    """The answer picks the reference among labelled choices.

    Attributes:
        reference: The right label, such as ``B`` or ``yes``.
        choices: Labels, or labels with their texts; A to J by default. At most 256, each of at most
            1,000 characters, since each is searched for.
    """

    kind: ClassVar[str] = "choice"
    reference: str
    choices: Sequence[str] | Mapping[str, str] = tuple("ABCDEFGHIJ")

    def __post_init__(self) -> None:
        labels = self.labels
        _require(
            not isinstance(self.choices, str) and all(isinstance(x, str) and x for x in labels),
            "choices",
            "must be a list of labels or an object of label and text",
        )
        _require(self.reference in labels, "reference", f"{self.reference!r} is not in `choices`")
        _require(len(labels) <= MAX_CHOICES, "choices", f"are more than {MAX_CHOICES}")
        texts = self.choices.values() if isinstance(self.choices, Mapping) else ()
        is_short = all(isinstance(x, str) and len(x) <= MAX_CHOICE_CHARS for x in (*labels, *texts))
        _require(is_short, "choices", f"must be texts of at most {MAX_CHOICE_CHARS} characters")

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels without their texts."""
        return tuple(self.choices)


@dataclass(frozen=True, slots=True)
class JsonSchemaSpec:
    """The answer, or the one fenced block in it, is JSON that the schema admits.

    Attributes:
        schema: A JSON Schema; references to other documents are never fetched. Its patterns are
            those of ECMA 262, as JSON Schema has it, less lookaround and back references.
    """

    kind: ClassVar[str] = "json_schema"
    schema: Mapping[str, Any] | bool

    def __post_init__(self) -> None:
        schema = self.schema if isinstance(self.schema, bool) else dict(self.schema)
        _check("schema", check_schema, schema)

    def admits(self, value: Any) -> bool:
        """Whether the decoded JSON `value` fits the schema.

        Raises:
            NotVerifiable: It holds half a surrogate pair, which is no character, or the schema
                takes too long.
        """
        try:
            return admits(self.schema, value)
        except (ValueError, RecursionError) as error:
            raise NotVerifiable(f"the JSON cannot be checked: {error}") from error


@dataclass(frozen=True, slots=True)
class RegexSpec:
    r"""The pattern is found in the answer.

    The syntax is RE2's, whose matching takes time linear in the answer whatever the pattern, so
    lookaround and back references are refused. ``\d``, ``\w``, ``\s`` and ``\b`` are of ASCII;
    ``\pL`` is any letter.

    Attributes:
        pattern: At most 1,000 characters.
        is_full: The whole answer, stripped of white space, must match.
    """

    kind: ClassVar[str] = "regex"
    pattern: str
    is_full: bool = False

    def __post_init__(self) -> None:
        _require(isinstance(self.pattern, str), "pattern", "must be text")
        is_short = len(self.pattern) <= MAX_PATTERN_CHARS
        _require(is_short, "pattern", f"exceeds {MAX_PATTERN_CHARS} chars")
        _check("pattern", check_regex, self.pattern)

    def matches(self, text: str) -> bool:
        """Whether the pattern matches `text`, anywhere or as a whole.

        Raises:
            NotVerifiable: That takes too long to say.
        """
        try:
            return matches(self.pattern, text, is_full=self.is_full)
        except ValueError as error:
            raise NotVerifiable(f"the pattern cannot be matched: {error}") from error


@dataclass(frozen=True, slots=True)
class MathSpec:
    """The answer is the reference by mathematics: an expression, equation, tuple, set or interval.

    The expression is the one marked as in `NumericSpec`, else the last in ``$...$``, else the last
    line. See `maths.is_equivalent`.

    Attributes:
        reference: In LaTeX or plain notation.
    """

    kind: ClassVar[str] = "math"
    reference: str
    _maths: Maths = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require(isinstance(self.reference, str), "reference", "must be text")
        try:
            object.__setattr__(self, "_maths", parse_maths(self.reference))
        except NotMaths as error:
            raise InvalidVerifier(f"reference: {self.reference!r}: {error}") from error

    def matches(self, text: str) -> bool:
        """Whether an expression means the reference.

        Raises:
            NotVerifiable: It is too long, too deep or too large to say.
        """
        try:
            return is_equivalent(self._maths, parse_maths(text))
        except BeyondLimits as error:
            raise NotVerifiable(f"the expression cannot be checked: {error}") from error
        except NotMaths:
            return False


VerifierSpec = ExactSpec | NumericSpec | ChoiceSpec | JsonSchemaSpec | RegexSpec | MathSpec

_SPECS = (ExactSpec, NumericSpec, ChoiceSpec, JsonSchemaSpec, RegexSpec, MathSpec)
_KINDS: Mapping[str, type[VerifierSpec]] = MappingProxyType({spec.kind: spec for spec in _SPECS})


def parse_verifier(table: Mapping[str, Any]) -> VerifierSpec:
    """Build the verifier that `table` describes.

    Raises:
        InvalidVerifier: The kind or a field is unknown, missing or of the wrong type.
    """
    _require(isinstance(table, Mapping), "verifier", "must be an object")
    spec = _KINDS.get(str(table.get("kind")))
    if spec is None:
        raise InvalidVerifier(f"kind: {table.get('kind')!r} is none of {', '.join(sorted(_KINDS))}")
    known = {f.name: f for f in fields(spec) if f.init}
    given = {name: value for name, value in table.items() if name != "kind"}
    for name in given:
        _require(name in known, name, f"unknown field of a {spec.kind} verifier")
    for name, description in known.items():
        _require(name in given or description.default is not MISSING, name, "is missing")
        if isinstance(description.default, bool) and name in given:
            _require(isinstance(given[name], bool), name, "must be true or false")
    try:
        return spec(**given)
    except TypeError as error:
        raise InvalidVerifier(f"a field of the {spec.kind} verifier has the wrong type") from error


def verify(spec: VerifierSpec, answer: str) -> float:
    """Score `answer` in [0, 1]; of a very long answer only the end is read.

    Raises:
        NotVerifiable: The answer is beyond what this kind of verifier can check.
    """
    if len(answer) > MAX_ANSWER_CHARS and isinstance(spec, JsonSchemaSpec | RegexSpec):
        raise NotVerifiable(f"the answer has more than {MAX_ANSWER_CHARS} characters")
    # Half a surrogate pair is no character, and no library takes it for one.
    text = answer[-MAX_ANSWER_CHARS:].encode(errors="replace").decode()
    # Of mathematics the plain form would lose the exponents of "x²".
    return float(_CHECKS[spec.kind](spec, text if isinstance(spec, MathSpec) else plain(text)))


def _check_exact(spec: ExactSpec, text: str) -> bool:
    def normal(answer: str) -> str:
        return _normalise(answer, is_case_kept=spec.case_sensitive)

    marked = extract_final_answer(text)
    candidates = {normal(text), normal(text if marked is None else marked)}
    return any(normal(reference) in candidates for reference in spec.references)


def _check_numeric(spec: NumericSpec, text: str) -> bool:
    marked = extract_final_answer(text)
    found: Number | None = None
    if marked is not None:
        numbers = find_numbers(marked.rpartition("=")[2])
        found = numbers[0] if numbers else None
    if found is None:
        numbers = find_numbers(text)
        found = numbers[-1] if numbers else None
    reference = spec.number
    return found is not None and reference is not None and found.equals(reference, spec.tolerance)


def _check_choice(spec: ChoiceSpec, text: str) -> bool:
    return _chosen_label(spec, text) == spec.reference


def _check_json(spec: JsonSchemaSpec, text: str) -> bool:
    fenced = _FENCE.findall(text)
    for candidate in (text, fenced[0] if len(fenced) == 1 else ""):
        try:
            value = json.loads(candidate, parse_constant=_refuse_constant)
        except json.JSONDecodeError:
            continue
        except (ValueError, RecursionError) as error:
            # Numbers of thousands of digits, brackets of hundreds of levels.
            raise NotVerifiable(f"the JSON cannot be read: {error}") from error
        return spec.admits(value)
    return False


def _check_regex(spec: RegexSpec, text: str) -> bool:
    return spec.matches(text.strip() if spec.is_full else text)


def _check_math(spec: MathSpec, text: str) -> bool:
    marked = extract_final_answer(text)
    if marked is None:
        spans = _MATH_SPAN.findall(text)
        marked = spans[-1] if spans else text.strip().rpartition("\n")[2]
        if not spans and len(marked) > MAX_CHARS:
            return False  # a paragraph, which nothing marks as mathematics
    return spec.matches(marked)


_CHECKS: Mapping[str, Callable[[Any, str], bool]] = MappingProxyType(
    {
        ExactSpec.kind: _check_exact,
        NumericSpec.kind: _check_numeric,
        ChoiceSpec.kind: _check_choice,
        JsonSchemaSpec.kind: _check_json,
        RegexSpec.kind: _check_regex,
        MathSpec.kind: _check_math,
    }
)


def _chosen_label(spec: ChoiceSpec, text: str) -> str | None:
    """Find the label an answer picks, from the clearest sign to the vaguest."""
    # A lone letter may be a word of the sentence ("A dog"), so letters keep their case.
    case = 0 if all(len(label) == 1 for label in spec.labels) else re.IGNORECASE
    by_form = {label.casefold() if case else label: label for label in spec.labels}
    label = "|".join(sorted(map(re.escape, by_form), key=len, reverse=True))
    ending = r"\b" if case else r"(?:[\s)*\"'\].:,!]*$|[)*\"'\].:,!\n])"
    opening = re.compile(rf"[\s(*\"'\[]*({label}){ending}", case)
    for candidate in filter(None, (extract_final_answer(text), text.strip())):
        match = opening.match(candidate)
        if match:
            return by_form[match[1].casefold() if case else match[1]]
    if isinstance(spec.choices, Mapping):
        named = [key for key, words in spec.choices.items() if _mentions(text, words)]
        if len(named) == 1:
            return named[0]
    within = rf"\b({label})\b" if case else rf"\(({label})\)|\b(?:option|choice) ({label})\b"
    found = re.findall(within, text, case)
    if not found:
        return None
    last = found[-1] if isinstance(found[-1], str) else "".join(found[-1])
    return by_form[last.casefold() if case else last]


def _mentions(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def _normalise(text: str, *, is_case_kept: bool) -> str:
    plain = " ".join(nfkc(text).strip(_WRAPPING).split())
    return plain if is_case_kept else plain.casefold()


def _check(name: str, check: Callable[[Any], None], source: Any) -> None:
    try:
        check(source)
    except ValueError as error:
        raise InvalidVerifier(f"{name}: {error}") from error


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError("not JSON", name, 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(condition: object, name: str, problem: str) -> None:
    if not condition:
        raise InvalidVerifier(f"{name}: {problem}")
