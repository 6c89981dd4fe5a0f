from dataclasses import replace

import numpy as np

from gateway.problems.report_tables import MOST_TASKS, render
from router_models.evaluation.report import Report
from tests.fakes.evaluations import made_up
from tests.fakes.reports import report

WHOLE = report()


def lines(whole: Report = WHOLE) -> list[str]:
    return list(render(whole, ["knows"]))


def line_of(name: str, found: list[str]) -> list[str]:
    return next(line for line in found if line.startswith(name)).split()


def test_a_model_alone_has_no_frontier_to_sum_up():
    assert line_of("cheapest", lines())[-5:] == ["-"] * 5
    assert line_of("oracle", lines())[-1].endswith("]")


def test_differences_are_in_points_and_percent():
    found = lines()
    after = found[found.index("knows against ..., paired by query") :]
    assert line_of("random mix", after)[2].startswith("+")
    assert "%" in line_of("random mix", after)


def test_a_quality_that_is_not_reached_is_said_to_be_so():
    assert WHOLE.frontier is not None
    best, *others = WHOLE.frontier.differences["knows"]
    never = replace(best.saving.share, value=-np.inf, low=-np.inf)
    best = replace(best, saving=replace(best.saving, share=never))
    frontier = replace(WHOLE.frontier, differences={"knows": (best, *others)})
    table = "\n".join(lines(replace(WHOLE, frontier=frontier)))
    assert "not reached [-, " in table


def test_every_task_has_a_line():
    found = lines()
    for task in ("sums", "code", "letters", "riddles"):
        queries, *_, low, high = line_of(task, found)[1:]
        assert 50 < int(queries) < 100
        assert low.startswith("[")
        assert high.endswith("]")


def test_tasks_beyond_the_largest_are_counted():
    assert WHOLE.frontier is not None
    tasks = WHOLE.frontier.tasks["knows"] * (MOST_TASKS // 4) + WHOLE.frontier.tasks["knows"][:3]
    frontier = replace(WHOLE.frontier, tasks={"knows": tasks})
    found = lines(replace(WHOLE, frontier=frontier))
    assert "and 3 more tasks: see --json" in found


def test_queries_without_a_label_of_a_task_are_not_listed_by_task():
    truth = replace(made_up(300), tasks=("",) * 300)
    assert not any("by task" in line for line in lines(report(truth)))


def test_a_log_of_one_answer_per_query_has_predictions_alone():
    found = lines(report(made_up(300, share_answered=0.0)))
    assert found[1] == "predictions of the quality of 300 answers"
    assert line_of("cheap", found)[0] == "cheap"
