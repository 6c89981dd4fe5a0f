"""The bundle that Flower demands for every run: it holds no code."""

import io
import zipfile
from typing import Final

BUNDLE: Final = """
[project]
name = "waypost"
version = "1.0.0"
[tool.flwr.app]
publisher = "waypost"
[tool.flwr.app.components]
serverapp = "federation.coordinator.session:Session"
clientapp = "federation.node.client_app:build_client_app"
"""
"""`federation.deployment.flower.TaskWorker` serves both sides, whatever stands here."""


def pack_bundle() -> bytes:
    """Return it as Flower takes it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        # A fixed date makes equal bundles equal bytes: Flower keeps each only once.
        archive.writestr(zipfile.ZipInfo("pyproject.toml"), BUNDLE)
    return content.getvalue()
