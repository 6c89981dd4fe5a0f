"""What Claude models take, told from their names; unknown names count as the newest."""

import re
from dataclasses import dataclass
from functools import lru_cache

_NAME = re.compile(r"claude-(?:(?P<family>[a-z]+)-)?(?P<major>\d+)(?:-(?P<minor>\d{1,2}))?(?!\d)")
_OLD_ORDER = re.compile(r"claude-(?P<major>\d)(?:-(?P<minor>\d))?-[a-z]+")
_NEWEST = (99, 0)


@dataclass(frozen=True, slots=True)
class Traits:
    """Which request fields a Claude model takes.

    Sources: https://platform.claude.com/docs/en/about-claude/models/migration-guide and
    https://platform.claude.com/docs/en/build-with-claude/effort

    Attributes:
        takes_sampling: ``temperature`` and ``top_p``; later models answer 400.
        thinks_adaptively: Effort decides how much it thinks; earlier ones take a token budget.
        thinks_always: ``thinking`` cannot be switched off.
        takes_budget: Thinks at all, under a token budget.
        efforts: What ``output_config.effort`` may be, from little to much.
        default_max_tokens: An output limit that the model takes, for callers who set none.
        most_output_tokens: The highest that it takes; None where that is not known.
        takes_prefill: Goes on with an answer that the request has begun.
        takes_one_sampling: ``temperature`` or ``top_p``, not both.
    """

    takes_sampling: bool
    thinks_adaptively: bool
    thinks_always: bool
    takes_budget: bool
    efforts: tuple[str, ...]
    default_max_tokens: int
    most_output_tokens: int | None
    takes_prefill: bool
    takes_one_sampling: bool


@lru_cache(maxsize=1024)
def traits_of(model: str) -> Traits:
    """Tell the traits of `model`, an upstream name such as ``claude-haiku-4-5-20251001``."""
    family, version = _version(model)
    efforts = ("low", "medium", "high", "xhigh", "max")
    return Traits(
        takes_sampling=version < (4, 7),
        thinks_adaptively=version >= (4, 6),
        thinks_always=family in {"fable", "mythos"},
        takes_budget=(3, 7) <= version < (4, 6),
        efforts=efforts if version >= (4, 7) else ("low", "medium", "high"),
        default_max_tokens=16_384 if version >= (3, 7) else 4096,
        most_output_tokens=_most_output_tokens(family, version),
        takes_prefill=version < (4, 6),
        takes_one_sampling=version >= (4, 1),
    )


def _most_output_tokens(family: str, version: tuple[int, int]) -> int | None:
    """Look up https://platform.claude.com/docs/en/about-claude/models/overview."""
    if version >= (4, 6):
        return None
    if family == "opus" and (4, 0) <= version <= (4, 1):
        return 32_000
    if version >= (3, 7):
        return 64_000
    return 8192 if version >= (3, 5) else 4096


def _version(model: str) -> tuple[str, tuple[int, int]]:
    found = _OLD_ORDER.search(model) or _NAME.search(model)
    if found is None:
        return "", _NEWEST
    groups = found.groupdict()
    version = (int(groups["major"]), int(groups.get("minor") or 0))
    return groups.get("family") or "", version
