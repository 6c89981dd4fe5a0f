"""Ids of tool calls, each host's in a form of its own.

A conversation that moves to another host brings the ids of the host before. What does not fit there
is replaced by a digest of it: the same id becomes the same one in every turn, in the call and in
its result, so nothing need be kept to find it again.
"""

import hashlib
import re
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class IdForm:
    """The ids that a host admits.

    Args:
        pattern: Of a whole id.
        prefix: Of ids that are made.
        longest: The length of ids that are made, at most 24 beside the prefix.
    """

    __slots__ = ("_length", "_pattern", "_prefix")

    def __init__(self, pattern: str, prefix: str, longest: int) -> None:
        self._pattern = re.compile(pattern, re.DOTALL)
        self._prefix = prefix
        self._length = min(longest - len(prefix), 24)

    def fit(self, given: str) -> str:
        """Return the id that stands for `given` at the host."""
        return given if self._pattern.fullmatch(given) else self._prefix + self._digest(given)

    def _digest(self, given: str) -> str:
        number = int.from_bytes(hashlib.sha256(given.encode("utf-8", "replace")).digest())
        signs = []
        for _ in range(self._length):
            number, sign = divmod(number, len(_ALPHABET))
            signs.append(_ALPHABET[sign])
        return "".join(signs)


ANTHROPIC_IDS: Final = IdForm(r"[a-zA-Z0-9_-]+", prefix="toolu_", longest=30)
"""https://platform.claude.com/docs/en/api/messages"""
