"""Where a caller's data may go: rules that hold before anything is predicted or chosen.

A rule names attributes that a model must have. Those of the team, of the key and of the request all
hold together, so that each can only narrow what the others admit. A model without the attributes is
no candidate, no fallback and no judge, whatever the reason would be to call it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from gateway.errors import Forbidden, InvalidRequest
from gateway.settings.data_rules import DataRuleSettings
from gateway.types import Caller

HEADER: Final = b"x-waypost-data-rule"
MAX_NAMED: Final = 8


class DataRules:
    """The rules of the settings."""

    def __init__(self, settings: Mapping[str, DataRuleSettings]) -> None:
        """Name each rule with its version, so that a row of the log tells what it required."""
        self._requires = {name: frozenset(rule.requires) for name, rule in settings.items()}
        self._versions = {name: f"{name}@{_digest(r)}" for name, r in self._requires.items()}

    def hold(self, caller: Caller, names: Iterable[str | None]) -> Caller:
        """Return the caller under the rules of its team and its key as well.

        Raises:
            Forbidden: The settings do not have a rule: nobody knows what it would admit.
        """
        held = dict.fromkeys(name for name in names if name is not None)
        for name in held:
            if name not in self._requires:
                raise Forbidden(
                    f"This key is held to the data rule {name!r}, which this gateway's settings do "
                    "not have. Ask the gateway's operator to add it."
                )
        return self._under(caller, held)

    def add(self, caller: Caller, asked: bytes | None) -> Caller:
        """Return the caller under the rules that its request asks for too, separated by commas.

        Raises:
            InvalidRequest: The settings do not have one of them.
        """
        if asked is None:
            return caller
        names = [name.strip() for name in asked.decode("latin-1").split(",", MAX_NAMED)]
        unknown = [name for name in names if name not in self._requires]
        if unknown:
            known = ", ".join(self._requires) or "none"
            raise InvalidRequest(
                f"There is no data rule {unknown[0][:80]!r}; known: {known}.",
                param=HEADER.decode(),
            )
        return self._under(caller, names)

    def _under(self, caller: Caller, names: Iterable[str]) -> Caller:
        versions = dict.fromkeys([*caller.data_rules, *(self._versions[name] for name in names)])
        if len(versions) == len(caller.data_rules):
            return caller
        requires = caller.requires.union(*(self._requires[name] for name in names))
        return replace(caller, requires=requires, data_rules=tuple(versions))


def _digest(requires: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted(requires)).encode()).hexdigest()[:8]
