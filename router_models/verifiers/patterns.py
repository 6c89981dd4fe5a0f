"""Regular expressions and JSON Schemas that match in time linear in the text.

Both come from callers, so neither engine backtracks: RE2 for patterns on their own, Rust's engine
for those within a schema. What an engine does not know is refused, never read as something else.
"""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

MAX_PATTERN_BYTES: Final = 1_000_000

_PIECE = re.compile(r"\\(?P<escaped>.)|\(\?(?P<group>.)", re.DOTALL)
_ECMA_ESCAPES = frozenset("bBcdDfknpPrsStuvwWx")
_ECMA_GROUPS = frozenset(":=!<")
_DATA_KEYWORDS = frozenset({"const", "default", "enum", "examples"})


def compile_regex(pattern: str) -> Any:
    """Compile a pattern in RE2's syntax; the result has `search` and `fullmatch`.

    Raises:
        ValueError: RE2 does not know something in it, or it needs more than `MAX_PATTERN_BYTES`.
    """
    re2 = import_module("re2")
    options = re2.Options()
    options.log_errors, options.max_mem = False, MAX_PATTERN_BYTES
    try:
        return re2.compile(pattern, options=options)
    except UnicodeEncodeError as error:
        raise ValueError("half a surrogate pair is no character") from error
    except re2.error as error:
        raise ValueError(error.args[0].decode(errors="replace")) from error


def compile_schema(schema: Any) -> Any:
    """Compile a JSON Schema; the result has `is_valid`.

    Raises:
        ValueError: It is no schema, refers to another document, or has a pattern that is not of
            ECMA 262.
    """
    for pattern in _patterns_in(schema):
        _require_ecma(pattern)
    # Loaded for the first schema: 3 MB that a gateway which is sent none does without.
    jsonschema_rs = import_module("jsonschema_rs")
    try:
        return jsonschema_rs.validator_for(
            schema,
            retriever=_refuse_to_fetch,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES),
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _patterns_in(schema: Any) -> Iterator[str]:
    """Find the regular expressions of a schema, at any depth."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            if isinstance(part.get("pattern"), str):
                yield part["pattern"]
            if isinstance(part.get("patternProperties"), Mapping):
                yield from map(str, part["patternProperties"])
            waiting += (value for key, value in part.items() if key not in _DATA_KEYWORDS)
        elif isinstance(part, list | tuple):
            waiting += part


def _require_ecma(pattern: str) -> None:
    """Refuse what JSON Schema's own dialect does not have; jsonschema-rs drops some of it."""
    for piece in _PIECE.finditer(pattern):
        escaped, group = piece["escaped"], piece["group"]
        if escaped and escaped.isalpha() and escaped not in _ECMA_ESCAPES:
            raise ValueError(f"pattern {pattern!r}: ECMA 262 has no \\{escaped}")
        if group and group not in _ECMA_GROUPS:
            raise ValueError(f"pattern {pattern!r}: ECMA 262 has no (?{group}")


def _refuse_to_fetch(uri: str) -> Any:
    raise ValueError(f"a verifier does not fetch {uri}")
