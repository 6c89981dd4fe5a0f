"""Reads what ``promptfoo eval --output`` writes, as JSON or as JSON Lines.

The form: promptfoo/promptfoo, src/types/index.ts (`OutputFile`, `EvaluateResult`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.expected_tokens import expected_tokens
from gateway.imports.contents import Content, Document, Records
from gateway.imports.records import Answer, InvalidImport, Model, Record, Skipped, question_of

NAME: Final = "promptfoo"
TASK: Final = "promptfoo"
_CALL_FAILED: Final = 2
"""Of `ResultFailureReason`: 0 none, 1 an assertion, 2 an error."""
_FIELDS: Final = frozenset({"promptIdx", "testIdx", "provider", "prompt", "success", "score"})
_HOSTS: Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure": "azure",
    "azureopenai": "azure",
    "google": "google",
    "vertex": "google",
    "bedrock": "aws",
    "mistral": "mistral",
    "groq": "groq",
    "togetherai": "together",
    "openrouter": "openrouter",
    "deepseek": "deepseek",
    "xai": "x-ai",
    "cohere": "cohere",
    "fireworks": "fireworks",
    "ollama": "ollama",
}
"""Kinds of providers that are followed by a model's name, in the price catalogue's words."""
_WAYS: Final = frozenset({"chat", "completion", "responses", "messages", "converse"})


def recognises(content: Content, fields: Mapping[str, Any]) -> bool:
    """Tell a document by its list of results, lines by their fields."""
    if isinstance(content, Records):
        return len(_FIELDS - fields.keys()) <= 1
    results = fields.get("results")
    return isinstance(results, dict) and "results" in results and "evalId" in fields


def read(contents: Sequence[Content]) -> Iterator[Answer | Skipped]:
    """Yield the answer of each test, prompt and provider.

    Raises:
        InvalidImport: A field is missing or wrong, or results are missing.
    """
    for content in contents:
        if isinstance(content, Records):
            yield from (_result(one) for one in content)
        elif isinstance(content, Document):
            yield from _document(content.record())


def _document(document: Record) -> Iterator[Answer | Skipped]:
    results = document.need("results.results", "a list")
    stats = document.need("results.stats", "an object")
    counts = Record(stats, f"{document.place}, results.stats")
    expected = sum(counts.need(n, "a count") for n in ("successes", "failures", "errors"))
    if expected != len(results):
        raise InvalidImport(
            f"{document.place}: has {len(results)} results, and its statistics say {expected}; "
            "the file is cut or from a run that was not finished: export it anew"
        )
    for at, result in enumerate(results):
        if not isinstance(result, dict):
            raise document.wrong(f"results.results[{at}]", "must be an object")
        yield _result(Record(result, f"{document.place}, results.results[{at}]"))


def _result(result: Record) -> Answer | Skipped:
    grading = result.find("gradingResult", "an object")
    reason = result.find("failureReason", "a count")
    if reason not in (None, 0, 1, _CALL_FAILED):
        raise result.wrong("failureReason", f"must be 0, 1 or 2, not {reason}")
    error = result.find("error", "a text")
    if reason == _CALL_FAILED or (grading is None and error):
        return Skipped(result.place, "the call failed")
    if grading is None or grading.get("reason") == "No assertions":
        return Skipped(result.place, "not graded")
    question = question_of(result.need("prompt.raw", "a text"), f"{result.place}, `prompt.raw`")
    prompt = result.find("response.tokenUsage.prompt", "a count")
    completion = result.find("response.tokenUsage.completion", "a count")
    is_counted = bool(prompt) and completion is not None
    is_cached = result.find("response.cached", "true or false")
    return Answer(
        place=result.place,
        item=f"test {result.need('testIdx', 'a count')}",
        task=TASK,
        query=question.text,
        model=_model(result),
        grades=_grades(result),
        expected=(question.expected_tokens, expected_tokens(_output(result))),
        prompt_tokens=prompt if is_counted else None,
        completion_tokens=completion if is_counted else None,
        # What an answer from promptfoo's cache cost is not what the model costs.
        cost_usd=None if is_cached else result.cost_usd("cost"),
    )


def _output(result: Record) -> str:
    output = (result.need("response", "an object")).get("output")
    return output if isinstance(output, str) else str(output or "")


def _grades(result: Record) -> Mapping[str, Any]:
    named = result.find("namedScores", "an object") or {}
    own = {
        "score": result.need("score", "a number"),
        "success": result.need("success", "true or false"),
    }
    return {**named, **own}


def _model(result: Record) -> Model:
    """Split ``openai:chat:gpt-4o-mini``; what is no kind of provider is a name as a whole."""
    spelled = result.need("provider.id", "a text")
    if not spelled:
        raise result.wrong("provider.id", "is empty")
    label = result.find("provider.label", "a text")
    kind, _, rest = spelled.partition(":")
    way, _, name = rest.partition(":")
    rest = name if way in _WAYS and name else rest
    if kind not in _HOSTS or not rest:
        return Model(spelled, spelled, label=label)
    return Model(spelled, rest, _HOSTS[kind], label)
