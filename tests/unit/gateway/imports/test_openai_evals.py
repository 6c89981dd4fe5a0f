import pytest

from gateway.imports.records import InvalidImport
from tests.fakes.evaluation_files import costs, imported, means
from tests.fakes.openai_evals_files import SPEC, match, sampling, write


def test_matches_are_rows_with_the_tokens_of_the_answer(tmp_path):
    log = write(
        tmp_path,
        {
            "h.0": [sampling("Which rope?"), match()],
            "h.1": [sampling("Why?"), match(correct=False)],
        },
    )
    rows, report = imported(log)
    assert means(report) == {"gpt-4o-mini": (2, 0.5)}
    assert costs(report) == {"gpt-4o-mini": pytest.approx(2 * (20 * 0.15 + 5 * 0.6) / 1e6)}
    assert [row.text for row in rows] == ["Which rope?", "Why?"]
    assert rows[0].metric == "correct"
    assert "somebody" not in repr((rows, report))


def test_the_call_of_a_judge_is_no_answer_and_what_it_could_not_judge_no_grade(tmp_path):
    judged = ("metrics", {"choice": "Yes", "score": 1.0})
    unread = ("metrics", {"choice": "__invalid__", "score": 0.0})
    log = write(
        tmp_path,
        {
            "h.0": [sampling("Which rope?"), sampling("Is it right?"), judged],
            "h.1": [sampling("Why?"), sampling("Is it right?"), unread],
        },
        {**SPEC, "completion_fns": ["gpt-4o-mini", "gpt-4o"]},
    )
    rows, report = imported(log)
    assert [(row.text, row.model, row.score) for row in rows] == [
        ("Which rope?", "gpt-4o-mini", 1.0)
    ]
    assert report.skipped == {"the judge failed": 1}


def test_what_failed_was_not_graded_or_took_several_calls_is_skipped(tmp_path):
    log = write(
        tmp_path,
        {
            "h.0": [sampling("A?"), match()],
            "h.1": [("error", {"type": "Timeout", "message": "m"})],
            "h.2": [sampling("B?")],
            "h.3": [sampling("C?"), sampling("D?"), match()],
            "h.4": [sampling("Is it right?"), ("metrics", {"choice": "Yes", "score": 1.0})],
        },
    )
    assert imported(log)[1].skipped == {
        "the call failed": 1,
        "not graded": 1,
        "one grade of several calls: it is not known whose it is": 2,
    }


def test_a_text_as_prompt_and_answer_without_tokens_is_estimated(tmp_path):
    old = {"prompt": "Which rope?", "sampled": "The spring line.", "usage": None, "model": None}
    spec = {key: value for key, value in SPEC.items() if key != "completion_fns"}
    log = write(
        tmp_path,
        {"h.0": [("sampling", old), match()]},
        {**spec, "model_name": "gpt-4o-mini"},
    )
    (row,), _ = imported(log)
    assert (row.model, row.cost_from) == ("gpt-4o-mini", "estimate")


def test_a_log_without_its_end_or_with_a_gap_is_refused(tmp_path):
    samples = {"h.0": [sampling("A?"), match()], "h.1": [sampling("B?"), match()]}
    log = write(tmp_path, samples, is_finished=False)
    with pytest.raises(InvalidImport, match="has no final report"):
        imported(log)
    lines = write(tmp_path, samples).read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(InvalidImport, match=r"line 3: `event_id` must be 1"):
        imported(log)


@pytest.mark.parametrize(
    ("samples", "spec", "complaint"),
    [
        ({"h": [sampling("A?"), match(correct="yes")]}, SPEC, "`correct` must be true or false"),
        ({"h": [sampling("A?", sampled=[]), match()]}, SPEC, "`sampled` must be"),
        ({"h": [sampling("A?", prompt=3), match()]}, SPEC, "the prompt must be a text"),
        ({"h": [sampling("A?"), match()]}, {**SPEC, "completion_fns": [3]}, "name the model"),
    ],
)
def test_a_wrong_field_is_named_with_its_place(tmp_path, samples, spec, complaint):
    with pytest.raises(InvalidImport, match=complaint):
        imported(write(tmp_path, samples, spec))
