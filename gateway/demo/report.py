"""What a demonstration found, as text: counts and differences with their intervals, no praise."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

Z_95: Final = 1.96


class Outcome(NamedTuple):
    """One answer: who gave it, whether it was right, and what it cost."""

    kind: str
    model: str
    score: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Course:
    """One way to choose models, and what it came to on the questions that nobody learned from."""

    name: str
    outcomes: Sequence[Outcome]

    @property
    def right(self) -> float:
        """Share of the answers that are right."""
        return float(np.mean([one.score for one in self.outcomes]))

    @property
    def usd_per_1000(self) -> float:
        """Cost of 1,000 questions."""
        return 1000 * float(np.mean([one.cost_usd for one in self.outcomes]))

    def worth_usd(self, willingness_to_pay_usd: float) -> list[float]:
        """Return what each answer is worth to its caller, less its cost."""
        return [willingness_to_pay_usd * one.score - one.cost_usd for one in self.outcomes]


def best_alone(outcomes: Sequence[Outcome], willingness_to_pay_usd: float) -> str:
    """Name the model whose answers were worth most on average."""

    def worth(model: str) -> float:
        own = Course(model, [one for one in outcomes if one.model == model])
        return float(np.mean(own.worth_usd(willingness_to_pay_usd)))

    return max(sorted({one.model for one in outcomes}), key=worth)


def table_of_traffic(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield what the grades say of each model, over all questions and for each kind."""
    kinds = sorted({one.kind for one in outcomes})
    header = "".join(f"{kind:>10}" for kind in kinds)
    yield f"{'model':<20}{'turns':>7}{'right':>8}{'USD/1,000':>11}  of which right:{header}"
    for model in sorted({one.model for one in outcomes}):
        own = Course(model, [one for one in outcomes if one.model == model])
        by_kind = "".join(f"{_right_of(own, kind):>10}" for kind in kinds)
        figures = f"{len(own.outcomes):>7}{own.right:>8.0%}{own.usd_per_1000:>11.4f}"
        yield f"{model:<20}{figures}{'':17}{by_kind}"


def table_of_courses(courses: Sequence[Course]) -> Iterator[str]:
    """Yield a line for each way to choose: quality, cost, and who was asked."""
    width = max(len(course.name) for course in courses)
    yield f"{'':<{width}}{'right':>8}{'USD/1,000':>11}  asked"
    for course in courses:
        counts = Counter(one.model for one in course.outcomes)
        shares = ", ".join(
            f"{count / len(course.outcomes):.0%} {model}" for model, count in counts.most_common()
        )
        yield f"{course.name:<{width}}{course.right:>8.0%}{course.usd_per_1000:>11.4f}  {shares}"


def compare(new: Course, other: Course, willingness_to_pay_usd: float) -> str:
    """Say in money what one way is worth beside another on the same questions."""
    pairs = zip(
        new.worth_usd(willingness_to_pay_usd), other.worth_usd(willingness_to_pay_usd), strict=True
    )
    differences = 1000 * np.array([a - b for a, b in pairs])
    mean, rows = float(differences.mean()), len(differences)
    error = Z_95 * float(differences.std(ddof=1)) / rows**0.5 if rows > 1 else float("inf")
    low, high = mean - error, mean + error
    figures = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] USD per 1,000 questions"
    if low > 0.0:
        return f"better than {other.name}: {figures}"
    if high < 0.0:
        return f"WORSE than {other.name}: {figures}"
    return f"no difference shown to {other.name}: {figures}"


def _right_of(course: Course, kind: str) -> str:
    scores = [one.score for one in course.outcomes if one.kind == kind]
    return f"{np.mean(scores):.0%}" if scores else "-"


def moved(before: Course, after: Course) -> Mapping[str, tuple[str, str]]:
    """Return whom each kind of question was asked most, before and after."""
    return {
        kind: (_most_asked(before, kind), _most_asked(after, kind))
        for kind in sorted({one.kind for one in after.outcomes})
    }


def _most_asked(course: Course, kind: str) -> str:
    ((model, _),) = Counter(one.model for one in course.outcomes if one.kind == kind).most_common(1)
    return model
