"""The settings of the learner: when it trains, and what it does with a router that is better."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from gateway.settings.base import Settings


class LearningSettings(Settings):
    """When a router is trained from the log, how it is judged, and what happens to it then."""

    enabled: Annotated[
        bool,
        Field(
            description="Whether `waypost serve` runs the learner beside it, in a process of its "
            "own that is started again when it ends. It needs the extra `train`, and exploration "
            "(`routing.exploration`) to learn what other models would have answered. `false` "
            "leaves learning to `waypost learn`."
        ),
    ] = False
    on_acceptance: Annotated[
        Literal["propose", "canary", "activate"],
        Field(
            description="What happens to a router that the acceptance rules let pass. `propose` "
            "keeps it until an operator runs `waypost learn approve`. `canary` lets it decide "
            "`canary_shares` of the turns, one after the other, then all. `activate` lets it "
            "serve at once. With both it is watched, and rolled back if it does worse."
        ),
    ] = "propose"
    canary_shares: Annotated[
        tuple[float, ...],
        Field(
            min_length=1,
            description="Shares of the turns that a new router decides with `canary`, each larger "
            "than the one before it, above 0.002 and at most 0.5. A smaller one harms fewer turns "
            "if the router is bad, and takes longer. Conversations that say their "
            "`conversation_id` stay with one router.",
        ),
    ] = (0.01, 0.05, 0.25)
    canary_answers: Annotated[
        int,
        Field(
            gt=0,
            description="Graded answers of the new router, where it differs from the active one, "
            "after which its share grows. More find smaller losses, and take longer.",
        ),
    ] = 30
    kept_share: Annotated[
        float,
        Field(
            ge=0.0,
            le=0.5,
            description="Share of the turns that the router before the active one goes on "
            "deciding, so that the watch can compare the two. Of a smaller one the watch takes "
            "longer to find a loss: with 0.05 about 1,500 graded answers for a loss of 0.24. 0 "
            "leaves it to exploration, which seldom tries what the active router believes bad.",
        ),
    ] = 0.05
    estimator: Annotated[
        Literal["auto", "kmeans", "ridge", "knn", "mlp"],
        Field(
            description="Kind of router that is trained. `auto` compares K-means, ridge and their "
            "average on rows that they had not seen."
        ),
    ] = "auto"
    min_new_grades: Annotated[
        int,
        Field(
            gt=0,
            description="Grades since the last training after which the next one begins. Fewer "
            "learn sooner and spend more CPU.",
        ),
    ] = 500
    interval_h: Annotated[
        float,
        Field(
            gt=0,
            description="Hours after the last training, or before the first one after the first "
            "grade, at which the next one begins with fewer grades too, as long as there is a new "
            "one.",
        ),
    ] = 24.0
    max_rows: Annotated[
        int,
        Field(
            ge=100,
            description="Graded answers that are learned from, the latest ones. Each takes 4 bytes "
            "per dimension of the encoder. Fewer follow a changing traffic sooner.",
        ),
    ] = 200_000
    tolerance: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="How much worse a new router may be than the one before it, in utility "
            "(quality - cost / willingness to pay). It holds for acceptance before it serves and "
            "for the watch after that.",
        ),
    ] = 0.02
    watch_risk: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Probability with which the watch may roll a router back that is no worse "
            "than the one before it, over all looks together. A smaller one needs more answers to "
            "roll a bad router back.",
        ),
    ] = 0.05
    poll_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds between two looks at the log. A bad router is rolled back at the "
            "first look that has enough answers.",
        ),
    ] = 60.0

    @field_validator("canary_shares")
    @classmethod
    def _shares_grow(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        # The watch counts no answer of smaller odds; the canary's are to be the smaller ones.
        if not all(0.002 < share <= 0.5 for share in shares) or list(shares) != sorted(set(shares)):
            raise ValueError("each must be larger than the one before, above 0.002 and at most 0.5")
        return shares
