"""JSON schemas as Anthropic takes them: of tools, and of structured outputs.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.exact_json import dumps

_NOT_ENFORCED: Final = frozenset(
    {
        "contains",
        "dependentRequired",
        "dependentSchemas",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "patternProperties",
        "propertyNames",
        "unevaluatedProperties",
        "uniqueItems",
    }
)
_FORMATS: Final = frozenset(
    {
        "date",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "time",
        "uri",
        "uuid",
    }
)
_OF_SCHEMAS: Final = frozenset({"$defs", "definitions", "properties"})


def tool_schema(given: Mapping[str, Any] | None, *, is_strict: bool) -> dict[str, Any]:
    """Return the schema of a tool's input, which must be an object's."""
    schema = {"type": "object", **(given or {"properties": {}})}
    schema["type"] = "object"
    return enforced_schema(schema) if is_strict else schema


def enforced_schema(schema: Any) -> Any:
    """Return `schema` without what Anthropic does not enforce and refuses.

    As in Anthropic's own SDKs, what is taken out is written into the description, so that the model
    reads it, and objects have no properties beside those that are named.
    """
    if isinstance(schema, list):
        return [enforced_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    lost = {name: value for name, value in schema.items() if _is_refused(name, value)}
    kept = {name: _part(name, value) for name, value in schema.items() if name not in lost}
    if "oneOf" in kept:  # which is refused, and differs where several of its schemas hold
        kept.setdefault("anyOf", kept.pop("oneOf"))
    if kept.get("type") == "object" or "properties" in kept:
        kept["additionalProperties"] = False
    if lost:
        told = dumps(lost).decode()
        before = kept.get("description")
        kept["description"] = f"{before}\n\n{told}" if isinstance(before, str) else told
    return kept


def _part(name: str, value: Any) -> Any:
    if name in _OF_SCHEMAS and isinstance(value, dict):
        return {key: enforced_schema(one) for key, one in value.items()}
    if name in ("allOf", "anyOf", "items", "oneOf"):
        return enforced_schema(value)
    return value


def _is_refused(name: str, value: object) -> bool:
    if name == "minItems":
        return value not in (0, 1)
    if name == "format":
        return value not in _FORMATS
    return name in _NOT_ENFORCED
