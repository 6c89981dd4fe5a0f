import pytest

from gateway.imports.choices import Scale, choose, parse_scale, refuse_mixtures, score_of
from gateway.imports.records import Answer, InvalidImport, Model, Verdict
from tests.fakes.evaluation_files import LM_EVAL, imported


def answer(grades, task="sums", lower=()):
    model = Model("m", "m")
    return Answer(
        "f.json, line 3", "1", task, "q", model, grades, (1, 1), lower_is_better=frozenset(lower)
    )


def test_the_only_metric_of_a_task_needs_no_name():
    assert choose([answer({"acc": 1})], ()) == {"sums": "acc"}


def test_several_metrics_are_a_question_that_lists_them():
    with pytest.raises(InvalidImport, match=r"which metric.*\n  sums: acc \| acc_norm"):
        choose([answer({"acc": 1, "acc_norm": 1}), answer({"f1": 1}, "letters")], ())


def test_a_metric_is_named_by_its_filter_too():
    grades = {"exact_match,strict-match": 1, "exact_match,flexible-extract": 1}
    assert choose([answer(grades)], ["strict-match"]) == {"sums": "exact_match,strict-match"}
    with pytest.raises(InvalidImport, match="which metric"):
        choose([answer(grades)], ["exact_match"])


def test_a_metric_that_no_task_has_is_named():
    with pytest.raises(InvalidImport, match=r"--metric ac: no task has it\n  sums: acc"):
        choose([answer({"acc": 1})], ["ac"])


def test_a_task_without_the_wanted_metric_is_not_given_another():
    with pytest.raises(InvalidImport, match="which metric"):
        choose([answer({"acc": 1}), answer({"f1": 1}, "letters")], ["acc"])


@pytest.mark.parametrize(
    ("value", "scale", "score"),
    [
        (0.25, Scale(), 0.25),
        (1, parse_scale("1:10"), 0.0),
        (5.5, parse_scale("1:10"), 0.5),
        (10, parse_scale("1:10"), 1.0),
        (0.2, parse_scale("1:0"), 0.8),
        (True, parse_scale("1:10"), 1.0),
        (Verdict(0.5), parse_scale("1:10"), 0.5),
        (-1, parse_scale("-1:1"), 0.0),
    ],
)
def test_a_grade_lies_between_the_worst_and_the_best(value, scale, score):
    assert score_of(answer({"acc": value}), "acc", scale) == pytest.approx(score)


@pytest.mark.parametrize("value", [None, -1, -1.0, float("nan")])
def test_what_a_failed_judge_wrote_is_no_grade(value):
    assert score_of(answer({"acc": value}), "acc", Scale()) is None


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (7, r"f\.json, line 3: metric 'acc' is 7, not within 0 to 1; say the range with --scale"),
        (-0.5, "not within 0 to 1"),
        (float("inf"), "not within 0 to 1"),
        ("0.5", "must be a number, not a text"),
        ([0, 1], "must be a number, not a list"),
    ],
)
def test_what_is_no_grade_of_the_scale_is_refused_with_its_place(value, complaint):
    with pytest.raises(InvalidImport, match=complaint):
        score_of(answer({"acc": value}), "acc", Scale())


def test_a_metric_that_counts_errors_must_be_turned_round():
    wrong = answer({"wer": 0.2}, lower=["wer"])
    with pytest.raises(InvalidImport, match="less is better"):
        score_of(wrong, "wer", Scale())
    assert score_of(wrong, "wer", parse_scale("1:0")) == pytest.approx(0.8)


def test_a_metric_that_is_a_verdict_here_and_a_number_there_is_refused():
    with pytest.raises(InvalidImport, match="a verdict"):
        refuse_mixtures([answer({"acc": True}), answer({"acc": 0.5})], {"sums": "acc"})
    refuse_mixtures([answer({"acc": True}), answer({"acc": -1})], {"sums": "acc"})


@pytest.mark.parametrize("text", ["", "1", "1:1", "1:2:3", "a:b", "nan:1", "0:inf"])
def test_a_scale_is_two_different_numbers(text):
    with pytest.raises(InvalidImport, match="--scale"):
        parse_scale(text)


def test_the_scale_is_that_of_the_files_grades():
    _, report = imported(LM_EVAL, metrics=("strict-match", "acc"), scale=parse_scale("0:2"))
    assert {one.model: round(one.mean_score, 4) for one in report.models} == {
        "gpt-4o-mini-2024-07-18": 0.2857,
        "Qwen/Qwen3-4B": 0.2143,
    }
