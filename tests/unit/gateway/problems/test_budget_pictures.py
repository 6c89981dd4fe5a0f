import numpy as np
import pytest

from budget.training.evaluate import Comparison, ParetoFront
from budget.training.train import StepFigures
from gateway.problems.budget_pictures import Marked, draw_fronts, draw_learning

POINT = Comparison((0.2, 0.1, 0.3), (900.0, 800.0, 1000.0), *[(0.1, 0.0, 0.2)] * 3)
FRONT = ParetoFront(np.array([100.0, 1000.0]), np.array([0.1, 0.2]))
RUN = [StepFigures(step, 0.1 * step, 0.5, 900.0, 1.0) for step in range(30)]


def labels(axes) -> list[str]:
    found: list[str] = axes.get_legend_handles_labels()[1]
    return found


@pytest.mark.parametrize(("oracle", "lines"), [(FRONT, 4), (None, 3)])
def test_draws_every_family_beside_the_static_front(oracle, lines):
    marked = [Marked("TAB, 1", "TAB", POINT), Marked("TAB, 2", "TAB", POINT)]
    figure = draw_fronts("problems", FRONT, oracle, [*marked, Marked("decay", "decay", POINT)])
    assert len(labels(figure.axes[0])) == lines


def test_draws_one_line_per_training_seed_and_names_each_policy_once():
    figure = draw_learning("problems", {"TAB": [RUN, RUN], "All-SubQ": [RUN]})
    assert len(figure.axes[0].lines) == 3
    assert labels(figure.axes[0]) == ["TAB", "All-SubQ"]
    assert len(figure.legends) == 1


def test_one_policy_needs_no_legend():
    assert not draw_learning("problems", {"TAB": [RUN]}).legends
