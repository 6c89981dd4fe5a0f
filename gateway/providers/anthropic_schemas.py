"""JSON schemas as Anthropic takes them: of tools, and of structured outputs.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
"""

from collections.abc import Iterable, Mapping
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
_ALTERNATIVES: Final = ("allOf", "anyOf", "oneOf")
"""Anthropic takes them within a schema, and not at the top of a tool's."""
_OF_SCHEMAS: Final = frozenset({"$defs", "definitions", "properties"})


def tool_schema(given: Mapping[str, Any] | None, *, is_strict: bool) -> dict[str, Any]:
    """Return the schema of a tool's input: an object's, without alternatives at the top."""
    schema = {"type": "object", **_merged(given or {"properties": {}})}
    schema["type"] = "object"
    return enforced_schema(schema) if is_strict else schema


def _merged(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Join the alternatives of a schema to one, which takes whatever one of them takes.

    What all of them require is required; a property that differs may be as in any of them.
    """
    kinds = [kind for kind in _ALTERNATIVES if isinstance(schema.get(kind), list)]
    if not kinds:
        return schema
    own = {name: value for name, value in schema.items() if name not in kinds}
    forms: list[Mapping[str, Any]] = [own]
    required = set(_required(own))
    for kind in kinds:
        parts = [_merged(part) for part in _resolved(schema[kind], schema)]
        forms += parts
        needed = [set(_required(part)) for part in parts if part.get("type") != "null"]
        if needed:
            required |= set.union(*needed) if kind == "allOf" else set.intersection(*needed)
    merged = {**own, "properties": _joined(form.get("properties") or {} for form in forms)}
    if required:
        merged["required"] = [name for name in merged["properties"] if name in required]
    return merged


def _joined(forms: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Join properties by name; only those that are there twice are written out to be compared."""
    given: dict[str, list[Any]] = {}
    for form in forms:
        for name, value in form.items():
            given.setdefault(name, []).append(value)
    return {name: one[0] if len(one) == 1 else _any_of(one) for name, one in given.items()}


def _any_of(schemas: list[Any]) -> Any:
    different = list({dumps(schema): schema for schema in schemas}.values())
    return different[0] if len(different) == 1 else {"anyOf": different}


def _resolved(parts: list[Any], root: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Follow references to definitions of the same schema by one step, each of them once."""
    followed = set()
    for part in parts:
        place, _, name = str(part.get("$ref", "")).removeprefix("#/").partition("/")
        if place not in ("$defs", "definitions"):
            yield part
        elif (place, name) not in followed:
            followed.add((place, name))
            yield (root.get(place) or {}).get(name) or part


def _required(schema: Mapping[str, Any]) -> list[Any]:
    names = schema.get("required")
    return names if isinstance(names, list) else []


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
