"""Why a router had better not serve this pool: what an operator should know before it does."""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.settings.config import GatewaySettings
from router_models.artifacts.router import RouterManifest

LEAST_ANSWERS: Final = 10
"""Of a model, below which what a router says of it is little more than chance."""
ANSWERS: Final = "answers"
"""Key of a manifest's `training`: the graded answers that were learned from, by model."""


def find_doubts(
    settings: GatewaySettings, manifest: RouterManifest, serving: RouterManifest | None
) -> list[str]:
    """List what speaks against letting a router serve, a sentence each.

    Args:
        settings: Models that are only discovered while a gateway runs are not known here.
        manifest: Of the router that shall serve.
        serving: Of the one that serves now; None where none was activated.
    """
    pool = settings.models
    named = set(_names(manifest))
    known = [model for model in pool if model in named] if pool else list(manifest.models)
    doubts = []
    if not known:
        doubts.append(
            f"it knows none of the models of these settings ({', '.join(pool)}), so it would "
            "decide nothing"
        )
    spellings = {
        name: {
            table.upstream_name or name,
            *(one.upstream_name or name for one in table.deployments),
        }
        for name, table in pool.items()
    }
    doubts += _other_spellings(manifest.models, named, spellings)
    if len(known) == 1 and len(pool) != 1:
        doubts.append(f"it knows one model only, so {known[0]} would get every turn it decides")
    lost = [model for model in _names(serving) if model not in named and model in (pool or [model])]
    if lost:
        doubts.append(f"it never chooses {', '.join(lost)}, which the router that serves knows")
    few = {model: count for model, count in _answers(manifest).items() if count < LEAST_ANSWERS}
    if few:
        counted = ", ".join(f"{count} of {model}" for model, count in few.items())
        doubts.append(f"it learned from few answers: {counted} ({LEAST_ANSWERS} are the least)")
    return doubts


def _names(manifest: RouterManifest | None) -> tuple[str, ...]:
    """Return all names by which a router knows models, aliases too."""
    if manifest is None:
        return ()
    aliases = (name for names in manifest.registry.values() for name in names)
    return (*manifest.models, *aliases)


def _other_spellings(
    models: Iterable[str], named: set[str], spellings: Mapping[str, Iterable[str]]
) -> list[str]:
    """Find models of the pool that the router knows by a name that callers do not use."""
    found = []
    for model in models:
        for name, others in spellings.items():
            if name not in named and _plain(model) in map(_plain, (name, *others)):
                found.append(
                    f"it says {model!r} where these settings say {name!r}: rename the model in the "
                    "table that it is trained on"
                )
    return found


def _plain(name: str) -> str:
    """Spell a name without its maker and without what people write in one way or another."""
    return name.rpartition("/")[2].casefold().replace("_", "-").replace(".", "-")


def _answers(manifest: RouterManifest) -> Mapping[str, int]:
    counted = manifest.training.get(ANSWERS)
    return counted if isinstance(counted, Mapping) else {}
