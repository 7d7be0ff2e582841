"""A small validator of JSON Schema, for what :mod:`tui_lab.cli.json_schema` makes use of, and the committed
schema."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "json.schema.json").read_text())
_TYPES = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}
_READ = {
    "$ref", "$schema", "$defs", "additionalProperties", "anyOf", "default", "description",
    "discriminator", "enum", "items", "maxItems", "maximum", "minItems", "minimum", "not",
    "prefixItems", "properties", "required", "title", "type",
}  # fmt: skip


def problems(value: object, schema: dict[str, Any] | bool = SCHEMA, at: str = "$") -> list[str]:
    """Where a value differs from the schema; [] for a valid one."""
    if isinstance(schema, bool):  # everything, or nothing
        return [] if schema else [f"{at} must not be there"]
    assert set(schema) <= _READ, f"the validator does not know {set(schema) - _READ}"
    if "$ref" in schema:
        return problems(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], at)
    if "anyOf" in schema:
        tries = [problems(value, each, at) for each in schema["anyOf"]]
        return [] if not all(tries) else min(tries, key=len) if len(tries) < 4 else _of_kind(value, at)
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value!r} is none of {schema['enum']}"]
    if "not" in schema and not problems(value, schema["not"], at):
        return [f"{at}: {value!r} is what it must not be"]
    wanted = schema.get("type")
    if wanted and not _is(value, wanted):
        return [f"{at}: {value!r} is no {wanted}"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        return [] if low <= value <= high else [f"{at}: {value} is not from {low} to {high}"]
    if isinstance(value, dict):
        return _object(value, schema, at)
    if isinstance(value, list):
        return _array(value, schema, at)
    return []


def _is(value: object, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    return isinstance(value, _TYPES[wanted])  # type: ignore[arg-type]


def _object(value: dict[str, object], schema: dict[str, Any], at: str) -> list[str]:
    known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = [f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, each in value.items():
        if name in known:
            found += problems(each, known[name], f"{at}.{name}")
        elif more is False:
            found.append(f"{at}: {name} is not in the schema")
        elif isinstance(more, dict):
            found += problems(each, more, f"{at}.{name}")
    return found


def _array(value: list[object], schema: dict[str, Any], at: str) -> list[str]:
    first = schema.get("prefixItems", [])
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    found = [] if least <= len(value) <= most else [f"{at}: {len(value)} values, not {least} to {most}"]
    for number, each in enumerate(value):
        kind = first[number] if number < len(first) else schema.get("items", {})
        found += problems(each, {} if kind is True else kind, f"{at}[{number}]")
    return found


def _of_kind(value: object, at: str) -> list[str]:
    """The problems of a record with the schema of its kind."""
    kind = value.get("kind") if isinstance(value, dict) else None
    for each in SCHEMA["$defs"].values():
        of_kind = each.get("properties", {}).get("kind", {}).get("enum") == [kind]
        if of_kind and (found := problems(value, each, at)):
            return found
    return [f"{at}: there is no kind {kind!r}"]
