"""Writes docs/reference/settings.md from the gateway's settings: `python -m docs.settings_page`.

What a setting means stands in its class in `gateway.settings`, and there alone.
"""

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.settings.config import DEFAULT_PROFILES, GatewaySettings

PAGE: Final = Path(__file__).parent / "reference" / "settings.md"
WIDTH: Final = 120
INTRODUCTION: Final = """\
# Settings

One TOML file, named by `--config` or `$WAYPOST_CONFIG`. Without a file every setting has its
default. A value `"$NAME"` is read from the environment variable `NAME`; a value that begins with a
dollar sign itself is written with two, `"$$..."`. An unknown key stops the start. Durations are in
seconds and may be fractions.

This page is made from the settings' own descriptions by `python -m docs.settings_page`.
"""
DEFAULTS: Final = {"data_dir": "`$WAYPOST_DATA_DIR`, else `$XDG_DATA_HOME/waypost`"}
"""Defaults that depend on the environment."""
GUIDES: Final = {
    "budgets": "cap-spending.md",
    "turn_budgets": "cap-a-conversation.md",
    "learning": "learn-by-itself.md",
    "tracing": "trace-requests.md",
    "federation.coordinator": "run-a-coordinator.md",
    "federation.coordinator.reasoner": "tune-a-reasoning-model.md",
    "federation.node": "run-a-coordinator.md",
    "federation.node.reasoner": "tune-a-reasoning-model.md",
    "providers.NAME": "configure-providers.md",
    "models.NAME": "configure-providers.md",
    "passthrough.NAME": "use-other-endpoints.md",
}
"""The how-to page of a table."""
WORDS: Final = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Path: "path",
    SecretStr: "secret string",
}


class Setting(NamedTuple):
    """One key of the file."""

    path: str
    field: FieldInfo


class Table(NamedTuple):
    """One table of the file; `path` is empty for the keys outside of any."""

    path: str
    model: type[BaseModel]

    def settings(self) -> list[Setting]:
        """List the keys that are not tables themselves."""
        fields = self.model.model_fields.items()
        return [
            Setting(self._below(name), field)
            for name, field in fields
            if _table_of(field.annotation) is None
        ]

    def tables(self) -> Iterator["Table"]:
        """Walk this table and those within it."""
        yield self
        for name, field in self.model.model_fields.items():
            inner = _table_of(field.annotation)
            if inner is not None:
                is_named = get_origin(field.annotation) is dict
                yield from Table(self._below(name) + ".NAME" * is_named, inner).tables()

    def _below(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


ROOT: Final = Table("", GatewaySettings)


def page() -> str:
    """Write the page."""
    return INTRODUCTION + "".join(_section(table) for table in ROOT.tables() if table.settings())


def _section(table: Table) -> str:
    title = f"[{table.path}]" if table.path else "Outside of any table"
    lines = [f"\n## {title}\n"]
    if table.path:
        lines += _prose(inspect.getdoc(table.model) or "")
    if table.path == "profiles.NAME":
        built_in = ", ".join(
            f"`{name}` ({profile.willingness_to_pay_usd:g} USD)"
            for name, profile in DEFAULT_PROFILES.items()
        )
        lines.append(f"Built in, with their willingness to pay: {built_in}.\n")
    if table.path in GUIDES:
        guide = GUIDES[table.path]
        lines.append(f"Guide: [{_title(guide)}](../how-to/{guide}).\n")
    return "\n".join([*lines, *map(_entry, table.settings())]) + "\n"


def _prose(text: str) -> list[str]:
    """Wrap the paragraphs of a docstring anew."""
    paragraphs = text.split("\n\n")
    return [textwrap.fill(" ".join(part.split()), WIDTH) + "\n" for part in paragraphs]


def _title(guide: str) -> str:
    first_line = (PAGE.parents[1] / "how-to" / guide).read_text(encoding="utf-8").splitlines()[0]
    return first_line.removeprefix("# ")


def _entry(setting: Setting) -> str:
    kind = _kind(setting.field.annotation) + _range(setting.field)
    text = f"- **`{setting.path}`** ({kind}; {_default(setting)}) {setting.field.description}"
    return textwrap.fill(
        text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _default(setting: Setting) -> str:
    if setting.path in DEFAULTS:
        return f"default {DEFAULTS[setting.path]}"
    if setting.field.is_required():
        return "required"
    return (
        "not set" if setting.field.default is None else f"default {_value(setting.field.default)}"
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value)}`" if isinstance(value, tuple) else f"`{value}`"


def _range(field: FieldInfo) -> str:
    """Say which numbers are allowed."""
    limits = {
        name: f"{getattr(bound, name):g}"
        for bound in field.metadata
        for name in ("gt", "ge", "lt", "le")
        if hasattr(bound, name)
    }
    if {"ge", "le"} <= limits.keys():
        return f" from {limits['ge']} to {limits['le']}"
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
    parts = [f"{words[name]} {limit}" for name, limit in limits.items()]
    return f" {' and '.join(parts)}" if parts else ""


def _kind(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0])
    if origin in {Union, UnionType}:
        return _kind(next(part for part in parts if part is not NoneType))
    if origin is Literal:
        return "one of " + ", ".join(f'`"{part}"`' for part in parts)
    if origin is dict:
        return "table" if parts[1] is Any else f"table, values: {_kind(parts[1])}"
    return f"list, items: {_kind(parts[0])}" if origin in {list, tuple} else WORDS[annotation]


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the class of a table, of an optional table, or of the tables under names."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and not get_args(part) and issubclass(part, BaseModel):
            return part
    return None


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
