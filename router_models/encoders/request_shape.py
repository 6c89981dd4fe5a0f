"""What a request says beside its query: tools, images, schema, earlier turns, system prompt.

The text of a query does not tell that it is a step of an agent, or which application sends it. So
these features are appended to the encoder's vector. A request that is one user message of text and
nothing else has none: its vector is the encoder's alone, as it was before there were such features,
and zeros in their place mean the same. Whoever reads vectors takes both lengths, see
`router_models.estimators.arrays.fit_width`.
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from math import sqrt
from struct import Struct
from typing import Any, Final

import numpy as np

from router_models.types import Float32

SUFFIX: Final = "+request-1"
"""Ends the id of an encoder to whose vectors these features are appended."""

LENGTH: Final = 0.3
"""No block is longer. A text's vector is about 1.3 long, so the text decides what is near. Chosen
on validation rows; see docs/explanation/routers.md."""

FIELDS: Final = frozenset({
    "tools", "functions", "tool_choice", "function_call", "response_format",
    "max_completion_tokens", "max_tokens", "stop",
})  # fmt: skip
"""Request fields that are read beside `messages`."""
_STRUCTURES: Final = FIELDS - {"max_completion_tokens", "max_tokens", "stop"}

_SYSTEM_SIGNS: Final = 16
_TOOL_SIGNS: Final = 12
SHAPE_NAMES: Final[tuple[str, ...]] = (
    "tools", "hosted_tools", "must_call", "may_not_call", "images", "audio", "files", "system",
    "earlier_chars", "earlier_turns", "tool_results", "ends_with_tool", "ends_with_assistant",
    "json_object", "json_schema", "properties", "max_tokens", "stop",
    *(f"system_sign_{index}" for index in range(_SYSTEM_SIGNS)),
    *(f"tool_sign_{index}" for index in range(_TOOL_SIGNS)),
)  # fmt: skip
WIDTH: Final = len(SHAPE_NAMES)

_SYSTEM_CHARS: Final = 256
"""Of the system prompt, which tell applications apart; further on come dates and users' names."""
_MOST_TOOLS: Final = 128
_NAME_CHARS: Final = 64
_SYSTEM_ROLES: Final = ("system", "developer")
_TOOL_ROLES: Final = ("tool", "function")
_IMAGES: Final = frozenset({"image_url", "input_image", "image"})
_AUDIO: Final = frozenset({"input_audio", "audio", "audio_url"})
_FILES: Final = frozenset({"file", "input_file", "video_url", "input_video", "video"})
_FLOATS: Final = Struct(f"{WIDTH}f")
_NO_SYSTEM: Final = (0.0,) * _SYSTEM_SIGNS
_NO_TOOLS: Final = (0.0,) * _TOOL_SIGNS
_SIGNS_OF_BYTE: Final = tuple(
    [(1.0 if byte >> bit & 1 else -1.0) / sqrt(_SYSTEM_SIGNS) for bit in range(8)]
    for byte in range(256)
)


def encoder_ids(encoder_id: str) -> tuple[str, ...]:
    """Return the ids under which vectors of this encoder are logged."""
    return (encoder_id,) if encoder_id.endswith(SUFFIX) else (encoder_id, encoder_id + SUFFIX)


def append_shape(
    encoder_id: str, embedding: Float32, body: Mapping[str, Any]
) -> tuple[str, Float32]:
    """Return a query's vector with what the rest of its request says, and the name of such vectors.

    Args:
        encoder_id: Of what made `embedding`.
        embedding: Of the text of the query; shape ``(dimension,)``.
        body: A decoded chat-completions body, of any form.
    """
    shape = measure_shape(body)
    if shape is None:
        return encoder_id, embedding
    return encoder_id + SUFFIX, np.concatenate((embedding, shape))


def text_part(encoder_id: str, embedding: bytes) -> tuple[str, bytes]:
    """Return what is left of a logged vector without the shape of its request, and its name."""
    if not encoder_id.endswith(SUFFIX):
        return encoder_id, embedding
    return encoder_id.removesuffix(SUFFIX), embedding[: -_FLOATS.size]


def measure_shape(body: Mapping[str, Any]) -> Float32 | None:
    """Measure a decoded chat-completions body; never raises on its form.

    Counts are read by their number of bits: the turns of one conversation then mostly look alike,
    and keep their model.

    Returns:
        One value per name in `SHAPE_NAMES`, together `LENGTH` long at most; None where all are 0.
    """
    messages = body.get("messages")
    messages = messages if isinstance(messages, list) else []
    if len(messages) == 1 and _STRUCTURES.isdisjoint(body) and _is_text(messages[0]):
        return _shape_of_limits(_limit(body), bool(body.get("stop")))
    told = _Told()
    for message in messages:
        if isinstance(message, dict):
            told.read(message)
    last = messages[-1] if messages and isinstance(messages[-1], dict) else {}
    tools = body.get("tools") or body.get("functions")
    tools = tools if isinstance(tools, list) else []
    figures = (
        *_tools(tools, body.get("tool_choice") or body.get("function_call")),
        *told.figures(),
        last.get("role") in _TOOL_ROLES,
        last.get("role") == "assistant",
        *_answer(body),
        *_system_signs(told.system),
        *_tool_signs(tools),
    )
    return _scaled(figures)


@lru_cache(maxsize=64)
def _shape_of_limits(limit: float, stops: bool) -> Float32 | None:  # noqa: FBT001
    """Measure a request that is one text and has no field but these, as most requests have."""
    figures = dict.fromkeys(SHAPE_NAMES, 0.0) | {"max_tokens": limit, "stop": float(stops)}
    shape = _scaled(tuple(figures.values()))
    if shape is not None:
        shape.setflags(write=False)  # all that are alike share it
    return shape


def _scaled(figures: Sequence[float]) -> Float32 | None:
    shape = np.frombuffer(_FLOATS.pack(*figures), np.float32)
    length = sqrt(shape.dot(shape))
    if length == 0.0:
        return None
    scaled: Float32 = shape * np.float32(LENGTH / max(length, 1.0))
    return scaled


class _Told:
    """What the messages say, added up."""

    __slots__ = (
        "audio",
        "chars",
        "files",
        "images",
        "query_chars",
        "system",
        "tool_results",
        "users",
    )

    def __init__(self) -> None:
        self.audio = self.files = self.images = 0
        self.chars = self.query_chars = 0
        self.tool_results = self.users = 0
        self.system = ""

    def read(self, message: Mapping[str, Any]) -> None:
        content = message.get("content")
        chars = len(content) if isinstance(content, str) else self._read_parts(content)
        self.chars += chars
        role = message.get("role")
        if role == "user":
            self.users += 1
            self.query_chars = chars
        elif role in _TOOL_ROLES:
            self.tool_results += 1
        elif role in _SYSTEM_ROLES and not self.system:
            self.system = _head(content)

    def _read_parts(self, parts: object) -> int:
        chars = 0
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                text, kind = part.get("text"), part.get("type")
                chars += len(text) if isinstance(text, str) else 0
                kind = kind if isinstance(kind, str) else ""
                self.images += kind in _IMAGES
                self.audio += kind in _AUDIO
                self.files += kind in _FILES
        return chars

    def figures(self) -> tuple[float, ...]:
        """Return those from ``images`` to ``tool_results``."""
        return (
            _bits(self.images, 4),
            _bits(self.audio, 4),
            _bits(self.files, 4),
            float(self.system != ""),
            _bits(self.chars - self.query_chars, 20),
            _bits(max(self.users - 1, 0), 8),
            _bits(self.tool_results, 8),
        )


def _is_text(message: object) -> bool:
    return (
        isinstance(message, dict)
        and message.get("role") == "user"
        and isinstance(message.get("content"), str)
    )


def _bits(count: int, most: int) -> float:
    return min(count.bit_length() / most, 1.0)


def _head(content: object) -> str:
    """Return the beginning of a message's text, of its first part where it has several."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = content[0].get("text")
    return content[:_SYSTEM_CHARS] if isinstance(content, str) else ""


def _tools(tools: Sequence[object], choice: object) -> tuple[float, ...]:
    """Return the figures from ``tools`` to ``may_not_call``."""
    hosted = sum(
        isinstance(tool, dict) and tool.get("type", "function") != "function"
        for tool in islice(tools, _MOST_TOOLS)
    )
    return (
        _bits(len(tools), 8),
        _bits(hosted, 4),
        float(isinstance(choice, dict) or choice == "required"),
        float(choice == "none"),
    )


def _answer(body: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the figures from ``json_object`` to ``stop``."""
    asked = body.get("response_format")
    asked = asked if isinstance(asked, dict) else {}
    kind = asked.get("type")
    schema = asked.get("json_schema")
    schema = schema.get("schema") if isinstance(schema, dict) else None
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return (
        float(kind == "json_object"),
        float(kind == "json_schema"),
        _bits(len(properties), 8) if isinstance(properties, dict) else 0.0,
        _limit(body),
        float(bool(body.get("stop"))),
    )


def _limit(body: Mapping[str, Any]) -> float:
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return _bits(limit, 20) if type(limit) is int and limit > 0 else 0.0


def _system_signs(head: str) -> Sequence[float]:
    """Spread a system prompt over signs: equal ones agree in all, others in half of them."""
    if not head:
        return _NO_SYSTEM
    digest = hashlib.blake2b(head.encode("utf-8", "replace"), digest_size=_SYSTEM_SIGNS // 8)
    return [sign for byte in digest.digest() for sign in _SIGNS_OF_BYTE[byte]]


def _tool_signs(tools: Sequence[object]) -> Sequence[float]:
    """Spread the names of tools, each over one place with a sign: a count sketch of length 1."""
    if not tools:
        return _NO_TOOLS
    places = [0.0] * _TOOL_SIGNS
    for tool in islice(tools, _MOST_TOOLS):
        name = _name(tool)
        if name:
            code = zlib.crc32(name.encode("utf-8", "replace"))
            places[(code >> 1) % _TOOL_SIGNS] += 1.0 if code & 1 else -1.0
    length = sqrt(sum(value * value for value in places))
    return [value / length for value in places] if length else places


def _name(tool: object) -> str:
    """Return what a tool is called, or the kind of one that has no name."""
    if not isinstance(tool, dict):
        return ""
    kind = tool.get("type", "function")
    inner = tool.get(kind) if isinstance(kind, str) else None
    name = inner.get("name") if isinstance(inner, dict) else tool.get("name", kind)
    return name[:_NAME_CHARS] if isinstance(name, str) else ""
