import numpy as np
from matplotlib.figure import Figure

from gateway.problems.frontier_pictures import draw_frontiers, draw_report
from tests.fakes.evaluations import made_up
from tests.fakes.reports import report


def labels(figure: Figure) -> list[list[str]]:
    legends = [panel.get_legend() for panel in figure.axes]
    return [[text.get_text() for text in legend.get_texts()] for legend in legends if legend]


def test_the_frontier_and_the_calibration_stand_side_by_side():
    frontier, calibration = labels(draw_report("a table", report()))
    assert {"oracle", "random mix", "best single model", "knows", "guesses"} <= set(frontier)
    assert calibration == ["calibrated", "knows", "guesses"]


def test_without_a_frontier_the_calibration_stands_alone():
    figure = draw_report("a log", report(made_up(300, share_answered=0.0)))
    assert labels(figure) == [["calibrated", "knows", "guesses"]]
    assert figure.axes[0].get_title(loc="left") == "a log"


def test_a_model_that_costs_nothing_is_drawn_on_a_linear_axis():
    points = np.array([0.0, 0.002]), np.array([0.3, 0.8])
    axes = Figure().subplots()
    draw_frontiers(axes, "with a free model", points, points, {"router": points})
    assert axes.get_xscale() == "linear"
