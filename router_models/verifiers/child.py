"""The child process: evaluates regular expressions and JSON Schemas until its parent leaves.

Both come from callers. Neither engine backtracks, RE2 for patterns on their own and Rust's engine
for those within a schema, and still a schema of 2 kB can take hours. So each question has a limit
of CPU time, at which the kernel ends this process. What an engine does not know is refused, never
read as something else.

Run as a script, with one JSON object per line from `router_models.verifiers.patterns`: it needs the
two engines and the standard library alone, so that it starts in tens of milliseconds.
"""

import json
import re
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import Any, BinaryIO, Final

MAX_CPU_S: Final = 0.5
"""Of one question, a thousand times what an ordinary one takes."""
MAX_MEMORY_BYTES: Final = 2**30
MAX_PATTERN_BYTES: Final = 1_000_000
REMEMBERED: Final = 64

_PIECE = re.compile(r"\\(?P<escaped>.)|\(\?(?P<group>.)", re.DOTALL)
_ECMA_ESCAPES = frozenset("bBcdDfknpPrsStuvwWx")
_ECMA_GROUPS = frozenset(":=!<")
_DATA_KEYWORDS = frozenset({"const", "default", "enum", "examples"})


def main() -> None:
    """Answer questions until standard input ends."""
    with suppress(ValueError):  # where the system has set a lower one already
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    # Ctrl-C reaches the whole process group; the parent lets go of this process by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer each line; the process ends where one takes more than `MAX_CPU_S`."""
    for line in questions:
        signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)
        answer = _answer(line)
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _answer(line: bytes) -> dict[str, Any]:
    question = json.loads(line)
    try:
        if "schema" in question:
            validator = _schema(json.dumps(question["schema"]))
            return {"verdict": "value" not in question or validator.is_valid(question["value"])}
        regex = _regex(question["pattern"])
        match = regex.fullmatch if question.get("is_full") else regex.search
        return {"verdict": "text" not in question or match(question["text"]) is not None}
    except ValueError as error:
        return {"problem": str(error)}


@lru_cache(REMEMBERED)
def _schema(schema: str) -> Any:
    return compile_schema(json.loads(schema))


@lru_cache(REMEMBERED)
def _regex(pattern: str) -> Any:
    return compile_regex(pattern)


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


if __name__ == "__main__":
    main()
