"""The routers that ship with the embedded pool, one per encoder."""

from pathlib import Path

from gateway.settings.config import EmbeddedSettings

DATA = Path(__file__).with_name("data")


def packaged_router(encoder_id: str, settings: EmbeddedSettings) -> Path | None:
    """Return the artefact trained on the embedded pool's calibration.

    None for other encoders, and where the settings leave it out.
    """
    file = DATA / f"router-{encoder_id}.safetensors"
    return file if settings.router and file.exists() else None
