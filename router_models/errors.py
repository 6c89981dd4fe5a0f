"""What can go wrong in routing, in the words of whoever caused it."""


class RouterModelsError(Exception):
    """Anything this package raises on purpose."""


class NoModelAvailable(RouterModelsError):
    """No candidate model can answer this query."""


class ArtifactRejected(RouterModelsError):
    """Bytes that this code may not serve: corrupt, foreign, or of another encoder."""


class InvalidEvaluations(RouterModelsError):
    """A table of evaluations that nothing can be learned from, and why."""


class InvalidRegistry(RouterModelsError):
    """Names of models that contradict each other, and which."""
