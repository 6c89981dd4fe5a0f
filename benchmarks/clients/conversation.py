"""What a scripted provider understands of a request, and what it answers, whatever the dialect.

The prompt is the script:

- ``<<call NAME {...}>>`` calls a tool, if it is offered; the second such mark is played after the
  first one's result, and so on. Then the answer quotes the last result.
- ``<<json {...}>>`` answers with this JSON, or calls the tool that takes these fields with it.
- ``<<say TEXT>>`` answers with this text.
- ``<<refuse>>`` is refused as a request that the model does not take.

Anything else is told the capital of Norway, or how many images it has.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PLAIN: Final = "The capital of Norway is Oslo."
REFUSAL: Final = "the model is too tired"
INPUT_TOKENS, OUTPUT_TOKENS = 21, 7
MOST_QUOTED: Final = 2_000
_CALL: Final = re.compile(r"<<call (\S+) (\{.*?\})>>", re.DOTALL)
_SAY: Final = re.compile(r"<<say (.*?)>>", re.DOTALL)
_JSON: Final = re.compile(r"<<json (\{.*?\})>>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        text: All that the user said.
        results: Texts of the results of tools, in order.
        tools: Names of the fields that a tool takes, by its name.
        forced: The tool that must be called.
        wants_json: Whether the answer is to follow a schema.
    """

    text: str
    results: tuple[str, ...]
    n_images: int
    tools: Mapping[str, frozenset[str]]
    forced: str | None
    wants_json: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a text, or the call of a tool."""

    text: str = ""
    tool: str | None = None
    arguments: str = "{}"


class Refused(Exception):
    """The request is one that the model does not take."""


def reply_to(asked: Asked) -> Reply:
    """Play what the prompt says.

    Raises:
        Refused: It says so.
    """
    if "<<refuse>>" in asked.text:
        raise Refused(REFUSAL)
    text = asked.text.replace('\\"', '"')  # opencode puts its prompt into quotes
    calls = [call for call in _CALL.findall(text) if call[0] in asked.tools]
    if len(calls) > len(asked.results):
        tool, arguments = calls[len(asked.results)]
        return Reply(tool=tool, arguments=arguments)
    if wanted := _JSON.search(asked.text):
        return _structured(asked, wanted[1])
    if said := _SAY.search(asked.text):
        return Reply(said[1])
    if asked.results:
        return Reply(f"Done: {asked.results[-1][:MOST_QUOTED]}")
    if asked.n_images:
        return Reply(f"I see images: {asked.n_images}")
    return Reply(PLAIN)


def _structured(asked: Asked, wanted: str) -> Reply:
    fields = json.loads(wanted).keys()
    fitting = (name for name, takes in asked.tools.items() if fields <= takes)
    tool = asked.forced or (None if asked.wants_json else next(fitting, None))
    return Reply(wanted) if tool is None else Reply(tool=tool, arguments=wanted)


def text_of(content: Any) -> str:
    """Join the texts of a content that is a text or a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or () if isinstance(part, dict))


def fields_of(schema: Any) -> frozenset[str]:
    """Name the fields of a tool's schema."""
    return frozenset((schema or {}).get("properties", ()))
