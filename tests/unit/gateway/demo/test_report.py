from gateway.demo.report import Course, Outcome, best_alone, compare, table_of_courses
from gateway.demo.report import table_of_traffic as table

PAID = 0.02


def course(name: str, scores: list[float], model: str = "small", cost_usd: float = 0.001) -> Course:
    return Course(name, [Outcome("sum", model, score, cost_usd) for score in scores])


def test_a_gain_is_said_in_money_with_its_interval():
    new, old = course("new", [1.0] * 19 + [0.0]), course("old", [0.0] * 20)
    assert compare(new, old, PAID).startswith("better than old: +19.00 [+17.04, +20.96] USD")


def test_a_loss_is_called_one():
    assert compare(course("new", [0.0] * 9), course("old", [1.0] * 9), PAID).startswith("WORSE")


def test_where_chance_explains_a_gain_none_is_claimed():
    new, old = course("new", [1.0, 0.0, 1.0, 1.0]), course("old", [0.0, 1.0, 1.0, 0.0])
    assert compare(new, old, PAID).startswith("no difference shown to old: +5.00 [")
    assert compare(course("new", [1.0]), course("old", [0.0]), PAID).startswith("no difference")


def test_the_same_quality_for_less_money_is_a_gain():
    new, old = course("new", [1.0] * 4, cost_usd=0.001), course("old", [1.0] * 4, cost_usd=0.002)
    assert (
        compare(new, old, PAID) == "better than old: +1.00 [+1.00, +1.00] USD per 1,000 questions"
    )


def test_the_best_model_alone_is_the_one_whose_answers_are_worth_most():
    outcomes = [
        Outcome("sum", "dear", 1.0, 0.015),
        Outcome("sum", "cheap", 1.0, 0.001),
        Outcome("sum", "cheap", 0.5, 0.001),
    ]
    assert best_alone(outcomes, PAID) == "cheap"
    assert best_alone(outcomes, 1.0) == "dear"


def test_tables_show_quality_cost_and_shares():
    mixed = Course("mixed", [Outcome("sum", "a", 1.0, 0.002), Outcome("letter", "b", 0.0, 0.0)])
    assert list(table_of_courses([mixed]))[1] == "mixed     50%     1.0000  50% a, 50% b"
    lines = list(table(mixed.outcomes))
    assert lines[1].split() == ["a", "1", "100%", "2.0000", "-", "100%"]
