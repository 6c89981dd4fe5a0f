"""A benchmark in the form in which FastChat writes it; all words are made up."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.imports.choices import parse_scale
from gateway.imports.records import InvalidImport
from tests.fakes.evaluation_files import imported, means

QUESTION = {"question_id": 81, "category": "writing", "turns": ["Write a letter.", "Shorter."]}
ANSWERS = [
    {
        "question_id": 81,
        "answer_id": f"a-{model}",
        "model_id": model,
        "choices": [{"index": 0, "turns": ["Dear harbour master", last]}],
        "tstamp": 1.0,
    }
    for model, last in (("gpt-4o-mini", "Dear sir"), ("gpt-4o", "$ERROR$"))
]


def grade(model: str, score: Any, turn: int = 1, judge: str = "gpt-4") -> dict[str, Any]:
    return {
        "question_id": 81,
        "model": model,
        "judge": [judge, "single-v1"],
        "user_prompt": "Grade this.",
        "judgment": "[[8]]",
        "score": score,
        "turn": turn,
        "tstamp": 1.0,
    }


def write(folder: Path, grades, questions=(QUESTION,), answers=ANSWERS) -> Path:
    files = {
        "question.jsonl": questions,
        "model_answer/all.jsonl": answers,
        "model_judgment/gpt-4_single.jsonl": grades,
    }
    for name, records in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in records))
    return folder


def read(folder: Path, **more):
    return imported(folder, scale=parse_scale("1:10"), **more)


def test_each_turn_is_a_row_whose_query_is_its_own_message(tmp_path):
    bench = write(tmp_path, [grade("gpt-4o-mini", 10), grade("gpt-4o-mini", 5.5, 2)])
    rows, report = read(bench)
    assert [(row.text, row.score) for row in rows] == [("Write a letter.", 1.0), ("Shorter.", 0.5)]
    assert rows[1].cost_usd > rows[0].cost_usd > 0
    assert {row.task for row in rows} == {"writing"}
    assert report.files == {"FastChat": 3}


def test_failed_answers_failed_judges_and_comparisons_are_no_grades(tmp_path):
    pair = {
        "question_id": 81,
        "model_1": "gpt-4o",
        "model_2": "gpt-4o-mini",
        "g1_winner": "model_1",
        "g2_winner": "tie",
        "judge": ["gpt-4", "pair-v2"],
        "turn": 1,
    }
    grades = [
        grade("gpt-4o-mini", 2),
        grade("gpt-4o-mini", 10),
        grade("gpt-4o-mini", -1, 2),
        grade("gpt-4o", 1, 2),
        pair,
    ]
    rows, report = read(write(tmp_path, grades))
    assert means(report) == {"gpt-4o-mini": (1, 1.0)}
    assert len(rows) == 1
    assert report.skipped == {
        "graded again later by the same judge": 1,
        "the judge failed": 1,
        "the call failed": 1,
        "a comparison of two models, no grade": 1,
    }


def test_several_judges_are_a_question(tmp_path):
    grades = [grade("gpt-4o-mini", 10), grade("gpt-4o-mini", 1, judge="claude-v1")]
    with pytest.raises(InvalidImport, match=r"writing: claude-v1 \| gpt-4"):
        read(write(tmp_path, grades))
    assert read(tmp_path, metrics=["claude-v1"])[0][0].score == 0.0


def test_without_the_scale_the_range_is_asked_for(tmp_path):
    with pytest.raises(InvalidImport, match="is 8, not within 0 to 1; say the range with --scale"):
        imported(write(tmp_path, [grade("gpt-4o-mini", 8)]))


@pytest.mark.parametrize(
    ("grades", "more", "complaint"),
    [
        ([grade("gpt-4o-mini", 8, 3)], {}, "`turn` is 3, and question 81 has no such turn"),
        (
            [grade("gpt-4o-mini", 8)],
            {"questions": [{**QUESTION, "question_id": 82}]},
            "question.jsonl must be imported too",
        ),
        ([grade("gpt-9", 8)], {}, r"model_answer/gpt-9\.jsonl must be imported too"),
        ([{**grade("gpt-4o-mini", 8), "judge": []}], {}, "`judge` must name the judge"),
        (
            [grade("gpt-4o-mini", 8)],
            {"questions": [QUESTION, {**QUESTION, "turns": ["Another."]}]},
            "question 81 is another one elsewhere",
        ),
        (
            [grade("gpt-4o-mini", 8)],
            {"answers": [{**ANSWERS[0], "choices": []}]},
            "`choices` must hold the answer",
        ),
        (
            [grade("gpt-4o-mini", 8)],
            {"questions": [{**QUESTION, "turns": [3]}]},
            "`turns` must be texts",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named_with_its_place(tmp_path, grades, more, complaint):
    with pytest.raises(InvalidImport, match=complaint):
        read(write(tmp_path, grades, **more))


def test_a_grade_without_a_score_is_refused(tmp_path):
    whole = grade("gpt-4o-mini", 8)
    del whole["score"]
    with pytest.raises(InvalidImport, match="`score` is missing"):
        read(write(tmp_path, [whole]))
