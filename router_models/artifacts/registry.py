"""Which names mean the same hosted model: one canonical name each, and its aliases.

Two organisations seldom give a model the same name. A router that learned from both predicts
canonical names; its registry lets each gateway ask in its own words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from router_models.errors import InvalidRegistry

_NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, init=False, repr=False)
class ModelRegistry:
    """Canonical names with their aliases; immutable, and equal content is equal.

    A canonical name is no alias, and an alias belongs to one model. A name that is neither stands
    for itself.
    """

    _aliases: tuple[tuple[str, tuple[str, ...]], ...]
    _canonical: Mapping[str, str]

    def __init__(self, aliases: Mapping[str, Sequence[str]] = _NOTHING) -> None:
        """Take the aliases of each canonical name; a model without aliases needs no entry.

        Raises:
            InvalidRegistry: A name is no text, or stands for two models.
        """
        canonical: dict[str, str] = {}
        kept: list[tuple[str, tuple[str, ...]]] = []
        for model, names in sorted(_checked(aliases).items()):
            for name in names:
                if name in aliases:
                    raise InvalidRegistry(
                        f"{name!r} is a model of its own and cannot be an alias of {model!r}"
                    )
                if name in canonical:
                    raise InvalidRegistry(
                        f"{name!r} is an alias of both {canonical[name]!r} and {model!r}"
                    )
                canonical[name] = model
            if names:
                kept.append((model, tuple(sorted(names))))
        object.__setattr__(self, "_aliases", tuple(kept))
        object.__setattr__(self, "_canonical", MappingProxyType(canonical))

    def __bool__(self) -> bool:
        """Whether any model has an alias."""
        return bool(self._aliases)

    def __hash__(self) -> int:
        return hash(self._aliases)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelRegistry) and self._aliases == other._aliases

    def __repr__(self) -> str:
        return f"ModelRegistry({self.to_mapping()!r})"

    def __iter__(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Go through the models that have aliases, in the order of their names."""
        return iter(self._aliases)

    def to_mapping(self) -> dict[str, list[str]]:
        """Return what the registry is built from, as JSON and TOML hold it."""
        return {model: list(names) for model, names in self._aliases}

    def canonical(self, name: str) -> str:
        """Return the canonical name that `name` stands for."""
        return self._canonical.get(name, name)

    def restricted_to(self, models: Sequence[str]) -> "ModelRegistry":
        """Keep the aliases of `models`.

        Raises:
            InvalidRegistry: One of `models` is the alias of another, so it has two meanings.
        """
        for model in models:
            if model in self._canonical:
                raise InvalidRegistry(
                    f"{model!r} is an alias of {self._canonical[model]!r} and cannot be a column"
                )
        return ModelRegistry({model: names for model, names in self if model in models})

    def with_overrides(self, own: "ModelRegistry") -> "ModelRegistry":
        """Add the names of one organisation, which override aliases that contradict them.

        An alias that means another model there is moved to that model.

        Raises:
            InvalidRegistry: A name of `own` is another model's canonical name here.
        """
        merged = {
            model: {name for name in names if own.canonical(name) in {name, model}}
            for model, names in self
        }
        for model, names in own:
            merged.setdefault(self.canonical(model), set()).update(names)
        return ModelRegistry({model: tuple(names) for model, names in merged.items()})


def _checked(aliases: Mapping[Any, Any]) -> Mapping[str, Sequence[str]]:
    """Refuse what TOML or JSON may hold in place of a mapping of names to lists of names."""
    if not isinstance(aliases, Mapping):
        raise InvalidRegistry("a registry maps each model's name to a list of its aliases")
    for model, names in aliases.items():
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise InvalidRegistry(f"the aliases of {model!r} are not a list")
        for name in (model, *names):
            if not isinstance(name, str) or not name:
                raise InvalidRegistry(f"{name!r} is not the name of a model")
    return aliases
