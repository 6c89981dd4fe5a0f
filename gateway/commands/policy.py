"""`waypost policy`: list, show, import, activate and roll back budget policies."""

from budget.policies.artifact import PolicyManifest
from gateway.artifacts.store import SealedStore, policy_store
from gateway.commands.artifact_kinds import ArtifactKind, artifact_commands, encoder_contents
from gateway.settings.config import GatewaySettings


def _open_store(settings: GatewaySettings) -> SealedStore[PolicyManifest]:
    return policy_store(settings)


def _choices(manifest: PolicyManifest) -> str:
    return f"{'/'.join(map(str, manifest.choices))} tokens"


def _traits(manifest: PolicyManifest) -> str:
    return f"{_choices(manifest)}  {manifest.encoder_id}"


def _brief(manifest: PolicyManifest) -> str:
    return f"{_choices(manifest)}, encoder {manifest.encoder_id}"


def _contents(manifest: PolicyManifest) -> dict[str, object]:
    return {
        "choices": manifest.choices,
        "features_version": manifest.features_version,
        **encoder_contents(manifest),
    }


command = artifact_commands(
    ArtifactKind(
        noun="budget policy",
        plural="budget policies",
        otherwise="turn_budgets.policy proposes",
        open_store=_open_store,
        traits=_traits,
        brief=_brief,
        contents=_contents,
    )
)
