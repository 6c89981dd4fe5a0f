"""What the readers of other tools' files share: a typed look at JSON, and what they hand on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from gateway.expected_tokens import MESSAGE_TOKENS, expected_prompt_tokens, expected_tokens
from gateway.wire import text_of

MOST_TOKENS: Final = 10**9
MOST_USD: Final = 10_000.0
"""Of one call; what is dearer is a figure of something else."""

UNCLEAR: Final = "one grade of several calls: it is not known whose it is"

Kind = Literal["a text", "an object", "a list", "a number", "a count", "true or false", "an id"]


class InvalidImport(Exception):
    """A file that cannot be read as what it seems to be; the message says where, and what to do."""


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON object, and the words that tell a reader where it stands."""

    fields: Mapping[str, Any]
    place: str

    def find(self, path: str, kind: Kind) -> Any:
        """Return the field at `path`, a name or names joined by dots; None where there is none.

        Raises:
            InvalidImport: It is there, and not of this kind.
        """
        value: Any = self.fields
        names = [path] if path in self.fields else path.split(".")
        for name in names:
            if value is None:
                return None
            if not isinstance(value, dict):
                raise self.wrong(path, f"lies in what is no object but {shown(value)}")
            value = value.get(name)
        if value is not None and not _is(value, kind):
            raise self.wrong(path, f"must be {kind}, not {shown(value)}")
        return value

    def need(self, path: str, kind: Kind) -> Any:
        """Return the field at `path`.

        Raises:
            InvalidImport: It is missing, null, or not of this kind.
        """
        value = self.find(path, kind)
        if value is None:
            raise self.wrong(path, "is missing")
        return value

    def wrong(self, path: str, what: str) -> InvalidImport:
        """Say what is wrong with a field."""
        return InvalidImport(
            f"{self.place}: `{path}` {what}; export the file anew, or take this entry out of it"
        )

    def cost_usd(self, path: str) -> float | None:
        """Return the cost of a call; None where there is none: a call that costs 0 was not priced.

        Raises:
            InvalidImport: It cannot be the cost of one call.
        """
        cost = self.find(path, "a number")
        if cost is None or cost == 0:
            return None
        if not 0 < cost <= MOST_USD:
            raise self.wrong(path, f"must be what one call cost in USD, not {cost}")
        return float(cost)


class Verdict(float):
    """A grade between 0 and 1, whatever the scale of other metrics is, as true and false are."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in a file that becomes no row, and why."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Model:
    """What answered, in the file's words.

    Attributes:
        spelled: As the file has it.
        name: Without what the tool puts before it to say where the model is called.
        host: That, as the price catalogue may know it; None where the file does not say.
        label: The name that somebody gave it in the tool; empty where nobody did, None where the
            file does not say.
        answered: What the provider said that it was.
    """

    spelled: str
    name: str
    host: str | None = None
    label: str | None = None
    answered: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer to one query, with every grade that the file gives it.

    Attributes:
        place: Where it stands, for messages.
        item: What the tool calls the question, or the call.
        task: Grades of the same name and task mean the same.
        grades: As they are in the file; None where a judge failed.
        expected: Tokens of the prompt and of the answer, estimated from their text.
        lower_is_better: Those of the grades that count errors.
    """

    place: str
    item: str
    task: str
    query: str
    model: Model
    grades: Mapping[str, Any]
    expected: tuple[float, float]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    lower_is_better: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True, slots=True)
class Question:
    """What a model was asked.

    Attributes:
        text: Of the last user message, which is what the router reads; may be empty.
        expected_tokens: Of the whole prompt.
    """

    text: str
    expected_tokens: float


def question_of(prompt: object, place: str) -> Question:
    """Read a prompt: a text, a list of messages, or either of them as JSON text.

    Raises:
        InvalidImport: It is none of these, or has no text.
    """
    messages = messages_in(prompt)
    if messages is None and isinstance(prompt, str):
        question = Question(prompt, expected_tokens(prompt) + MESSAGE_TOKENS)
    elif messages is None:
        raise InvalidImport(f"{place}: the prompt must be a text or messages, not {shown(prompt)}")
    else:
        asked = [one for one in messages if one.get("role") in {"user", "human"}] or messages
        question = Question(
            text_of(asked[-1].get("content")), expected_prompt_tokens({"messages": messages})
        )
    if not _is_unicode(question.text):
        raise InvalidImport(f"{place}: the prompt is no Unicode text; export the file anew")
    return question


def messages_in(prompt: object) -> Sequence[Mapping[str, Any]] | None:
    """Return the messages of a chat, which may be JSON within a text; None if it is none."""
    found = prompt
    if isinstance(prompt, str) and prompt.lstrip()[:1] in ("[", "{"):
        try:
            found = orjson.loads(prompt)
        except ValueError:
            return None
    if isinstance(found, dict):
        found = found.get("messages", [found])
    if not isinstance(found, list) or not found:
        return None
    is_chat = all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in found)
    return found if is_chat else None


def shown(value: object) -> str:
    """Describe a value without repeating a text, which may be anybody's."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    names: dict[type, str] = {str: "a text", dict: "an object", list: "a list"}
    return names.get(type(value), "something else")


def _is(value: object, kind: Kind) -> bool:
    if isinstance(value, bool):
        return kind == "true or false"
    is_number = isinstance(value, int | float) and math.isfinite(value)
    allowed = {
        "a text": isinstance(value, str),
        "an object": isinstance(value, dict),
        "a list": isinstance(value, list),
        "a number": is_number,
        "a count": isinstance(value, int) and 0 <= value <= MOST_TOKENS,
        "an id": isinstance(value, int) or (isinstance(value, str) and value != ""),
    }
    return allowed.get(kind, False)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
