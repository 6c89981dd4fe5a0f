"""Each setting, error code and metric is in docs/reference/."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from gateway.errors import INTERNAL, RENDERINGS
from gateway.settings.config import (
    CapabilitySettings,
    GatewaySettings,
    ModelSettings,
    PriceSettings,
    ProfileSettings,
    ProviderSettings,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMED_TABLES: dict[str, type[BaseModel]] = {
    "profiles": ProfileSettings,
    "providers": ProviderSettings,
    "models": ModelSettings,
}


def keys(settings: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in settings.model_fields.items():
        kind = NAMED_TABLES.get(name) if settings is GatewaySettings else None
        if kind is not None:
            yield from keys(kind, f"{name}.NAME.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        elif name not in {"price", "capabilities"}:
            yield f"{prefix}{name}"
    if settings is ModelSettings:
        yield from keys(PriceSettings, f"{prefix}price.")
        yield from keys(CapabilitySettings, f"{prefix}capabilities.")


def missing(names: Iterable[str], page: str) -> list[str]:
    """Return what a page of the reference does not name."""
    text = (DOCS / "reference" / page).read_text()
    return [name for name in names if f"`{name}`" not in text]


def test_every_setting_is_documented() -> None:
    settings = sorted(set(keys(GatewaySettings)))

    assert "server.port" in settings
    assert missing(settings, "settings.md") == []


def test_every_error_code_is_documented() -> None:
    codes = [rendering.code for rendering in (*RENDERINGS.values(), INTERNAL)]

    assert missing(codes, "http-api.md") == []


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    broken = [
        f"{page.relative_to(DOCS.parent)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
