import pytest

from gateway.imports.records import InvalidImport
from tests.fakes.evaluation_files import imported, means
from tests.fakes.helm_files import WORSE, stat, state, stats, write


def test_metrics_of_several_entries_are_an_answers(tmp_path):
    run = write(
        tmp_path,
        [state("id1", "Which rope?"), state("id2", "Why?")],
        [
            stats("id1", stat("exact_match", 1.0), stat("f1", 0.5)),
            stats("id1", stat("num_prompt_tokens", 20.0), stat("num_output_tokens", 5.0)),
            stats("id2", stat("exact_match", 0.0), stat("f1", 0.5)),
        ],
    )
    rows, report = imported(run, metrics=("exact_match",))
    assert means(report) == {"gpt-4o-mini": (2, 0.5)}
    assert [row.cost_from for row in rows] == ["tokens", "estimate"]
    assert rows[0].cost_usd == pytest.approx((20 * 0.15 + 5 * 0.6) / 1e6)
    assert {row.task for row in rows} == {"harbour:subject=ropes"}
    assert report.ignored == ()


def test_what_cannot_be_graded_is_skipped_and_counted(tmp_path):
    failed = {"success": False, "cached": False, "completions": []}
    run = write(
        tmp_path,
        [
            state("id1", "Which rope?"),
            state("id2", "Which ropes?", instance={"id": "id2", "perturbation": WORSE}),
            state("id3", "Why?", result=failed),
            state("id4", "Who?"),
            state("id5", "When?"),
            state("id6", "A?", reference_index=0),
            state("id6", "B?", reference_index=1),
            state("id7", "N/A", request_mode="calibration"),
        ],
        [
            stats("id1", stat("exact_match", 1.0)),
            stats("id2", stat("exact_match", 0.0), perturbation=WORSE),
            stats("id3", stat("exact_match", 0.0)),
            stats("id5", stat("exact_match", None)),
            stats("id6", stat("exact_match", 0.0)),
        ],
    )
    rows, report = imported(run)
    assert [(row.text, row.score) for row in rows] == [("Which rope?", 1.0)]
    assert report.skipped == {
        "a changed question, or a call to calibrate": 2,
        "the call failed": 1,
        "not graded": 1,
        "the judge failed": 1,
        "one grade of several calls: it is not known whose it is": 2,
    }


def test_messages_are_read_as_the_gateway_reads_them(tmp_path):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    request = {"model": "openai/gpt-4o-mini", "prompt": "", "messages": chat}
    run = write(tmp_path, [state("id1", "x", request=request)], [stats("id1", stat("em", 1))])
    assert [row.text for row in imported(run)[0]] == ["Why?"]


def test_a_metric_of_two_values_is_no_grade(tmp_path):
    measured = [stats("id1", stat("em", 1.0)), stats("id1", stat("em", 0.0))]
    run = write(tmp_path, [state("id1", "Why?")], measured)
    with pytest.raises(InvalidImport, match="metric 'em' must be a number, not a list"):
        imported(run)


@pytest.mark.parametrize(
    ("states", "measured", "complaint"),
    [
        ([3], [stats("id1")], r"`request_states\[0\]` must be an object"),
        ([state("id1", "A?")], [stats("id1", {"name": {}})], "`name.name` is missing"),
        ([state("id1", "A?")], [{"instance_id": "id1", "stats": []}], "train_trial_index"),
        ([state("id1", "A?")], [{**stats("id1"), "stats": [3]}], r"`stats\[0\]` must be an object"),
        (
            [state("id1", "A?", result={"success": True, "completions": []})],
            [stats("id1", stat("em", 1))],
            "`result.completions` must hold the answer",
        ),
        (
            [state("id1", "A?")],
            [stats("id1", stat("em", 1), stat("num_prompt_tokens", 0.5))],
            "`num_prompt_tokens` must be a count",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_place(tmp_path, states, measured, complaint):
    with pytest.raises(InvalidImport, match=complaint):
        imported(write(tmp_path, states, measured))


def test_a_run_without_one_of_its_files_is_refused(tmp_path):
    run = write(tmp_path, [state("id1", "A?")], [stats("id1", stat("em", 1))])
    (run / "run_spec.json").unlink()
    with pytest.raises(InvalidImport, match=r"run_spec\.json must lie beside it"):
        imported(run)
