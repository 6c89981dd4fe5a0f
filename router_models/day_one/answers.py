"""What models of a pool answered here, and what that makes of them."""

from dataclasses import dataclass

from router_models.day_one.belief import Belief, Float64
from router_models.types import Float32


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one model answered, and how good that was.

    Attributes:
        embeddings: Of the queries; shape ``(n, dimension)``.
        score: In [0, 1].
        tokens: That it wrote; NaN where nobody counted them.
        weight: How many grades each counts for, from 0 to 1.
    """

    embeddings: Float32
    score: Float64
    tokens: Float64
    weight: Float64

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What is known of one model after its answers.

    Attributes:
        answers: That this rests on; None where it has none.
        line: Constant and slope of log tokens, and factors by cluster, as `FactorsEstimator` has
            them.
    """

    answers: Answers | None
    belief: Belief
    line: Float64
    factors: Float64
