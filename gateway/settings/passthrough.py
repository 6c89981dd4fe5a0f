"""Endpoints of a provider that callers may use as they are."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from gateway.settings.base import Settings

_PATH: Final = r"^/v1(/([a-zA-Z0-9_-]+|\{[a-z_]+\}))+$"
_KEEP_NOTHING: Final = frozenset(
    {"audio", "classify", "detokenize", "images", "moderations", "ocr", "score", "tokenize"}
)
"""First parts of paths whose endpoints answer, and keep nothing that another call may ask for."""


class PassthroughSettings(Settings):
    """One endpoint of a provider that callers may use: its path and method, and its price.

    Bodies (JSON or multipart) and answers (of any type) pass as they are. What a call may cost is
    held before it and charged after it; the parts of the price add up.
    """

    provider: Annotated[
        str, Field(description="Name of the `[providers.NAME]` table that serves the endpoint.")
    ]
    path: Annotated[
        str,
        Field(
            pattern=_PATH,
            description="Path at which callers ask, such as `/v1/images/generations`. A part in "
            "braces, as in `/v1/files/{file_id}`, stands for one name. No other spelling is "
            "served.",
        ),
    ]
    method: Annotated[
        Literal["GET", "POST", "DELETE"],
        Field(description="HTTP method that is served at the path. Others get status 405."),
    ] = "POST"
    upstream_path: Annotated[
        str | None,
        Field(
            pattern=_PATH,
            description="Path at the provider, from `/v1` on, with the same parts in braces. By "
            "default the same path.",
        ),
    ] = None
    teams: Annotated[
        tuple[str, ...],
        Field(
            description="Teams that may use the endpoint. By default all may. An endpoint that "
            "keeps something at the provider (files, batches, and every one not known to keep "
            "nothing) needs exactly one team here, the same for all of its provider: whoever has "
            "the provider's key can list and read all that is kept."
        ),
    ] = ()
    models: Annotated[
        tuple[str, ...],
        Field(
            description="Values that the request's `model` may have, one of which it must have. "
            "By default any or none may be sent, and the price must hold for all of them."
        ),
    ] = ()
    fields: Annotated[
        tuple[str, ...],
        Field(
            description="Fields that the request's body may have beside `model`. By default any "
            "may be sent, and the price must hold for all that they ask for."
        ),
    ] = ()
    price_per_call_usd: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="USD that every call costs. There is no default: 0 has to be written.",
        ),
    ]
    items_field: Annotated[
        str,
        Field(
            description="Field of the body that says how many items are asked for, such as images."
            " Where it is left out, one is."
        ),
    ] = "n"
    price_per_item_usd: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="USD that each item costs which `items_field` asks for.",
        ),
    ] = 0.0
    price_per_mb_usd: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="USD for each million bytes of the request's body: for recordings and "
            "for texts to be spoken.",
        ),
    ] = 0.0
    used_field: Annotated[
        str | None,
        Field(
            description="Where a JSON answer says what was used, such as `usage.seconds` or "
            "`usage.total_tokens`. By default nothing is read."
        ),
    ] = None
    price_per_used_usd: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="USD for each unit that `used_field` tells. `most_used` of them are held, "
            "and charged where the answer does not say.",
        ),
    ] = 0.0
    most_used: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000_000,
            description="Most units that one call may use. What is told beyond is not charged.",
        ),
    ] = 0

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        upstream = self.upstream_path or self.path
        if parameters(upstream) != parameters(self.path):
            raise ValueError("upstream_path must have the same parts in braces as path")
        if self.price_per_used_usd and not (self.used_field and self.most_used):
            raise ValueError("price_per_used_usd needs used_field and most_used")
        return self

    @property
    def keeps(self) -> bool:
        """Whether something may stay at the provider that other calls can ask for."""
        upstream = self.upstream_path or self.path
        is_plain = self.method == "POST" and not parameters(self.path)
        return not (is_plain and upstream.split("/")[2] in _KEEP_NOTHING)


def parameters(path: str) -> list[str]:
    """Name the parts of a path that are in braces."""
    return re.findall(r"\{([a-z_]+)\}", path)


def refuse_shared(tables: Mapping[str, PassthroughSettings]) -> None:
    """Refuse what would let one team list or read what another one keeps at a provider.

    Raises:
        ValueError: Such an endpoint is not granted to one team alone.
    """
    owners: dict[str, tuple[str, str]] = {}
    seen: dict[tuple[str, str], str] = {}
    for name, table in tables.items():
        if len(set(parameters(table.path))) < len(parameters(table.path)):
            raise ValueError(f"passthrough.{name}.path: each part in braces needs its own name")
        place = table.method, re.sub(r"\{[a-z_]+\}", "{}", table.path)
        if place in seen:
            raise ValueError(f"passthrough.{name}: passthrough.{seen[place]} serves the same path")
        seen[place] = name
        if not table.keeps:
            continue
        if len(table.teams) != 1:
            raise ValueError(
                f"passthrough.{name}.teams: name the one team whose files, batches and the like "
                f"the provider {table.provider!r} keeps; others could read them"
            )
        first, owner = owners.setdefault(table.provider, (name, table.teams[0]))
        if owner != table.teams[0]:
            raise ValueError(
                f"passthrough.{name}.teams: the provider {table.provider!r} keeps what belongs to "
                f"{owner!r} (passthrough.{first}); give each team a provider with a key of its own"
            )
