"""An answer as it was drawn, and as other clients get it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Response:
    """One answer as it was drawn.

    Attributes:
        text: Without special tokens.
        tokens: With the token that ends it.
        log_probabilities: Of each token when it was drawn, at the temperature of the drawing;
            empty where the sampler cannot tell.
        is_complete: Ended by itself, not cut off.
    """

    text: str
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    is_complete: bool
