"""`waypost router`: list, show, import, activate and roll back router artefacts."""

from gateway.artifacts.doubts import find_doubts
from gateway.artifacts.store import ArtifactStore, router_store
from gateway.commands.artifact_kinds import ArtifactKind, artifact_commands, encoder_contents
from gateway.settings.config import GatewaySettings
from router_models.artifacts.router import RouterManifest


def _open_store(settings: GatewaySettings) -> ArtifactStore:
    return router_store(settings)


def _traits(manifest: RouterManifest) -> str:
    guard = "guarded" if manifest.has_guard else "no guard"
    return f"{len(manifest.models)} models  {manifest.encoder_id}  {guard}"


def _brief(manifest: RouterManifest) -> str:
    return f"{len(manifest.models)} models, encoder {manifest.encoder_id}"


def _contents(manifest: RouterManifest) -> dict[str, object]:
    return {
        "has_guard": manifest.has_guard,
        "models": manifest.models,
        "unit": manifest.unit,
        "registry": manifest.registry,
        **encoder_contents(manifest),
    }


command = artifact_commands(
    ArtifactKind(
        noun="router",
        plural="routers",
        otherwise="the packaged one serves where there is one",
        open_store=_open_store,
        traits=_traits,
        brief=_brief,
        contents=_contents,
        doubts=find_doubts,
    )
)
