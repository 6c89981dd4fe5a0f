"""What an operator lets callers use of a provider as it is: paths, for whom, at what price."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from gateway.budgets.worst_case import WorstCase
from gateway.errors import Forbidden, InvalidRequest, ModelNotFound
from gateway.exact_json import dumps
from gateway.forwarding.call import Call, Charged, scopes_of, worst_of
from gateway.forwarding.model_endpoints import JSON
from gateway.forwarding.multipart import form_fields, is_multipart
from gateway.pool.prices import declared_nusd
from gateway.settings.passthrough import PassthroughSettings, parameters
from gateway.types import Caller, Usage
from gateway.wire import OWN_FIELD, decoded_body

PASSTHROUGH: Final = "passthrough"
MOST_ITEMS: Final = 10_000
BYTES_PER_MB: Final = 1_000_000
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,127}"
"""What a part in braces stands for: no name that a path could be changed by."""


@dataclass(frozen=True, slots=True)
class FixedTariff:
    """A price that is known before the call, and perhaps a part that its answer tells.

    Attributes:
        fixed_nusd: All but that part.
        used_field: Where the answer tells it.
        unit_nusd: For each unit; `most_used` are held.
    """

    fixed_nusd: int
    used_field: str | None = None
    unit_nusd: int = 0
    most_used: int = 0

    @property
    def need(self) -> WorstCase:
        """What is held before the call."""
        return worst_of(self.fixed_nusd + self.unit_nusd * self.most_used)

    @property
    def is_read(self) -> bool:
        """Whether the answer says what the call cost."""
        return bool(self.unit_nusd)

    def of_answer(self, answer: Any) -> Charged:
        """Charge what the answer tells, or the most."""
        used = _used_in(answer, self.used_field)
        if used is None:
            return Charged(self.need.prompt_nusd)
        paid = min(used, Decimal(self.most_used)) * self.unit_nusd
        return Charged(self.fixed_nusd + int(paid.to_integral_value(ROUND_CEILING)))

    def of_usage(self, usage: Usage | None) -> Charged:
        """Charge the most: what passes unread tells nothing."""
        del usage
        return Charged(self.need.prompt_nusd)


class Passthrough:
    """One endpoint that an operator allows."""

    def __init__(
        self, name: str, settings: PassthroughSettings, attributes: frozenset[str]
    ) -> None:
        """Compile its path; `attributes` are those of its provider."""
        self._attributes = attributes
        self.name = name
        self.settings = settings
        self.method = settings.method
        self.path = settings.path
        literals = map(re.escape, re.split(r"\{[a-z_]+\}", settings.path))
        self._path = re.compile(f"({_NAME})".join(literals))

    def matches(self, path: str) -> bool:
        """Whether `path` is this one, spelled as it is in the settings."""
        return self._path.fullmatch(path) is not None

    def admit(self, caller: Caller) -> None:
        """Refuse a caller whose team may not use it, or whose data may not go to its provider.

        Raises:
            Forbidden: It may not.
        """
        if self.settings.teams and caller.team_id not in self.settings.teams:
            raise Forbidden("This key's team may not use this endpoint.")
        if not caller.may_send_to(self._attributes):
            rules = ", ".join(caller.data_rules)
            raise Forbidden(f"What is held to {rules} may not be sent to this endpoint.")

    def prepare(
        self, path: str, raw: bytes, headers: Mapping[bytes, bytes], query: bytes, caller: Caller
    ) -> Call:
        """Check a request, and say what it may cost.

        Raises:
            InvalidRequest: It is malformed, or asks for what is not priced.
            ModelNotFound: The key or the settings do not admit the model that it names.
        """
        if query:
            raise InvalidRequest("This endpoint takes no query string.")
        body, content_type, fields = _read_body(self.method, raw, headers)
        self._check_model(fields, caller)
        for name in fields:
            if self.settings.fields and name not in {"model", OWN_FIELD, *self.settings.fields}:
                raise InvalidRequest(f"`{name}` is not admitted here.", param=name)
        return Call(
            operation=PASSTHROUGH,
            name=self.name,
            provider=self.settings.provider,
            upstream_name=None,
            method=self.method,
            path=self._upstream(path),
            body=body,
            content_type=content_type,
            tariff=self._tariff(fields, len(raw)),
            scopes=scopes_of(self.name, fields, headers),
        )

    def _check_model(self, fields: Mapping[str, Any], caller: Caller) -> None:
        """A key that may use some models only may use this if it names one, or this by name."""
        model, admitted = fields.get("model"), self.settings.models
        named = model if isinstance(model, str) else self.name
        if (admitted and model not in admitted) or not caller.may_name(named):
            known = f"name one of {', '.join(admitted)}" if admitted else "ask your operator"
            raise ModelNotFound(
                f"The model of this request is not served to this key here; {known}.",
                param="model",
            )

    def _tariff(self, fields: Mapping[str, Any], n_bytes: int) -> FixedTariff:
        table = self.settings
        nusd = declared_nusd(table.price_per_call_usd)
        if table.price_per_item_usd:
            nusd += _items(fields, table.items_field) * declared_nusd(table.price_per_item_usd)
        nusd += -(-n_bytes * declared_nusd(table.price_per_mb_usd) // BYTES_PER_MB)
        unit_nusd = declared_nusd(table.price_per_used_usd)
        return FixedTariff(nusd, table.used_field, unit_nusd, table.most_used)

    def _upstream(self, path: str) -> str:
        """Fill the names of `path` into the path at the provider, below the API's version."""
        found = self._path.fullmatch(path)
        values = dict(zip(parameters(self.path), found.groups() if found else (), strict=True))
        upstream = self.settings.upstream_path or self.path
        return upstream.removeprefix("/v1").format(**values)


def _read_body(
    method: str, raw: bytes, headers: Mapping[bytes, bytes]
) -> tuple[bytes | None, str | None, dict[str, Any]]:
    """Return the body to send, its type, and its fields.

    JSON is written anew, so that no name is in it twice.
    """
    if method != "POST":
        if raw:
            raise InvalidRequest(f"{method} takes no body here.")
        return None, None, {}
    content_type = headers.get(b"content-type", b"").strip()
    if is_multipart(content_type):
        form: dict[str, Any] = {**form_fields(raw, content_type)}
        return raw, content_type.decode("ascii"), form
    if not content_type.lower().startswith(JSON.encode()):
        raise InvalidRequest("Send JSON, or a form (multipart/form-data), by its Content-Type.")
    body = decoded_body(raw or b"{}")
    fields = {name: value for name, value in body.items() if value is not None}
    body.pop(OWN_FIELD, None)
    return dumps(body), JSON, fields


def _items(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name, 1)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if type(value) is not int or not 0 < value <= MOST_ITEMS:
        raise InvalidRequest(f"`{name}` must be a whole number from 1 to {MOST_ITEMS}.", param=name)
    return value


def _used_in(answer: Any, path: str | None) -> Decimal | None:
    """Read a number from 0 on at a dotted path of a decoded answer; None without one."""
    value = answer
    for name in (path or "").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Decimal(repr(value)) if 0 <= value < float("inf") else None
