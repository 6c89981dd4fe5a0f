"""Regular expressions and JSON Schemas of callers, evaluated where they can hold up nobody else.

One child process of this one does it, see `router_models.verifiers.child`. It is started for the
first question, and again after one that took too much.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Final

from router_models.verifiers.child import MAX_CPU_S

CHILD: Final = Path(__file__).with_name("child.py")
_PASSED_VARIABLES: Final = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME")
"""What a process needs to start; the parent's secrets are not among it."""


class CostlyQuestion(ValueError):
    """A pattern or schema takes more time or memory than it may: there is no verdict."""


class Evaluator:
    """Has a child process evaluate, one question at a time.

    It is no daemon of `multiprocessing`, which may have no children. After a fork each process
    starts a child of its own.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = Lock()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def ask(self, question: Mapping[str, Any]) -> bool:
        """Return the verdict on a question as the child reads it.

        Raises:
            CostlyQuestion: There was none within the limits.
            ValueError: The engine does not take the pattern, the schema or the value.
        """
        line = json.dumps(question, default=dict).encode() + b"\n"
        with self._lock:
            answer = json.loads(self._exchange(line))
        if "problem" in answer:
            raise ValueError(answer["problem"])
        return bool(answer["verdict"])

    def close(self) -> None:
        """End the child."""
        with self._lock:
            if self._child is not None:
                self._end(self._child)

    def _exchange(self, line: bytes) -> bytes:
        if self._child is not None and self._child.poll() is not None:
            self._end(self._child)
        child = self._child = self._child or self._started()
        assert child.stdin is not None  # noqa: S101
        assert child.stdout is not None  # noqa: S101
        try:
            child.stdin.write(line)
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = b""
        except BaseException:
            self._end(child)  # its answer would be read as that to the next question
            raise
        if answer.endswith(b"\n"):
            return answer
        status = self._end(child)
        if status == -signal.SIGPROF:
            raise CostlyQuestion(f"it takes more than {MAX_CPU_S} s of CPU time")
        raise CostlyQuestion(f"the process that evaluates it ended with status {status}")

    def _started(self) -> subprocess.Popen[bytes]:
        environ = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
        return subprocess.Popen(  # noqa: S603 (this Python and a file of this package)
            (sys.executable, str(CHILD)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
        )

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        self._child = None
        child.kill()
        child.communicate()
        return child.returncode

    def _forget(self) -> None:
        """Leave the child to the process that this one was forked from."""
        child, self._child, self._lock = self._child, None, Lock()
        if child is not None:
            child.returncode = 0
            # Below their buffers, whose locks a thread may hold that is not here, and unsent bytes.
            for pipe in filter(None, (child.stdin, child.stdout)):
                pipe.raw.close()  # type: ignore[attr-defined]


_evaluator: Final = Evaluator()


def check_regex(pattern: str) -> None:
    """Compile a pattern in RE2's syntax.

    Raises:
        ValueError: RE2 does not know something in it, or it needs too much.
    """
    _evaluator.ask({"pattern": pattern})


def matches(pattern: str, text: str, *, is_full: bool) -> bool:
    """Whether a pattern is found in a text, or is all of it.

    Raises:
        CostlyQuestion: That takes too long to say.
    """
    return _evaluator.ask({"pattern": pattern, "text": text, "is_full": is_full})


def check_schema(schema: Any) -> None:
    """Compile a JSON Schema.

    Raises:
        ValueError: It is no schema, refers to another document, has a pattern that is not of
            ECMA 262, or needs too much.
    """
    try:
        _evaluator.ask({"schema": schema})
    except (TypeError, RecursionError) as error:
        raise ValueError(f"this is no JSON: {error}") from error


def admits(schema: Any, value: Any) -> bool:
    """Whether a schema admits the decoded JSON `value`.

    Raises:
        ValueError: That takes too long to say, or the value holds half a surrogate pair.
    """
    return _evaluator.ask({"schema": schema, "value": value})
