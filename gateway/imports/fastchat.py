"""Reads FastChat's judgements (MT-bench): questions, models' answers and grades, in three files.

The form: lm-sys/FastChat, fastchat/llm_judge/common.py (`play_a_match_single`) and
fastchat/llm_judge/gen_api_answer.py. Grades are from 1 to 10, and -1 where the judge failed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gateway.expected_tokens import expected_tokens
from gateway.imports.contents import Content, Records
from gateway.imports.records import Answer, InvalidImport, Model, Record, Skipped, question_of

NAME: Final = "FastChat"
_FAILED: Final = "$ERROR$"
"""`API_ERROR_OUTPUT`, which is written as an answer where there was none."""
_QUESTION: Final = frozenset({"question_id", "category", "turns"})
_ANSWER: Final = frozenset({"question_id", "answer_id", "model_id", "choices"})
_GRADE: Final = frozenset({"question_id", "model", "judge", "judgment", "score", "turn"})
_PAIR: Final = frozenset({"question_id", "model_1", "model_2", "g1_winner", "g2_winner", "judge"})


class _Graded(NamedTuple):
    item: str
    model: str
    turn: int


@dataclass(slots=True)
class _Bench:
    questions: dict[str, list[str]] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    answers: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    grades: dict[_Graded, dict[str, Any]] = field(default_factory=dict)
    places: dict[_Graded, str] = field(default_factory=dict)


def recognises(content: Content, fields: Mapping[str, Any]) -> bool:
    """Tell each kind of file by its fields, one of which may be missing."""
    kinds = (_QUESTION, _ANSWER, _GRADE, _PAIR)
    return isinstance(content, Records) and any(_has(fields, kind) for kind in kinds)


def _has(fields: Mapping[str, Any], kind: frozenset[str]) -> bool:
    return "question_id" in fields and len(kind - fields.keys()) <= 1


def read(contents: Sequence[Content]) -> Iterator[Answer | Skipped]:
    """Yield a turn of each model's answers with the grades of all judges.

    Raises:
        InvalidImport: A field is missing or wrong, or the question or answer of a grade is.
    """
    bench = _Bench()
    for content in contents:
        if isinstance(content, Records):
            for record in content:
                yield from _add(record, bench)
    for graded, grades in bench.grades.items():
        yield _answer(graded, grades, bench)


def _add(record: Record, bench: _Bench) -> Iterator[Skipped]:
    item = str(record.need("question_id", "an id"))
    fields = record.fields
    if "model_1" in fields:
        yield Skipped(record.place, "a comparison of two models, no grade")
    elif "choices" in fields or "model_id" in fields:
        bench.answers[item, record.need("model_id", "a text")] = _turns(record)
    elif "turns" in fields:
        turns = _texts(record, record.need("turns", "a list"))
        if bench.questions.setdefault(item, turns) != turns:
            raise InvalidImport(
                f"{record.place}: question {item} is another one elsewhere; import one benchmark "
                "at a time"
            )
        bench.categories[item] = record.find("category", "a text") or NAME
    else:
        yield from _add_grade(record, item, bench)


def _add_grade(record: Record, item: str, bench: _Bench) -> Iterator[Skipped]:
    turn = record.need("turn", "a count")
    graded = _Graded(item, record.need("model", "a text"), turn)
    judge = record.need("judge", "a list")
    if not judge or not isinstance(judge[0], str):
        raise record.wrong("judge", "must name the judge")
    if "score" not in record.fields:
        raise record.wrong("score", "is missing")
    grades = bench.grades.setdefault(graded, {})
    if judge[0] in grades:
        yield Skipped(bench.places[graded], "graded again later by the same judge")
    grades[judge[0]] = record.fields["score"]
    bench.places[graded] = record.place


def _turns(answer: Record) -> list[str]:
    """The first choice's; FastChat has no other graded."""
    choices = answer.need("choices", "a list")
    if not choices or not isinstance(choices[0], dict):
        raise answer.wrong("choices", "must hold the answer")
    choice = Record(choices[0], f"{answer.place}, choices[0]")
    return _texts(choice, choice.need("turns", "a list"))


def _texts(record: Record, turns: list[Any]) -> list[str]:
    if not all(isinstance(turn, str) for turn in turns):
        raise record.wrong("turns", "must be texts")
    return turns


def _answer(graded: _Graded, grades: dict[str, Any], bench: _Bench) -> Answer | Skipped:
    item, model, turn = graded
    place = bench.places[graded]
    questions = bench.questions.get(item)
    answers = bench.answers.get((item, model))
    if questions is None or answers is None:
        lacking = "question.jsonl" if questions is None else f"model_answer/{model}.jsonl"
        raise InvalidImport(f"{place}: {lacking} must be imported too; it lacks question {item}")
    if not 1 <= turn <= min(len(questions), len(answers)):
        raise InvalidImport(f"{place}: `turn` is {turn}, and question {item} has no such turn")
    if _FAILED in answers[:turn]:
        return Skipped(place, "the call failed")
    spoken = [
        {"role": role, "content": text}
        for pair in zip(questions, answers, strict=False)
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    question = question_of(spoken[: 2 * turn - 1], place)
    return Answer(
        place=place,
        item=f"{item}, turn {turn}",
        task=bench.categories[item],
        query=question.text,
        model=Model(model, model),
        grades=grades,
        expected=(question.expected_tokens, expected_tokens(answers[turn - 1])),
    )
