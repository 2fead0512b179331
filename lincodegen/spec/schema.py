"""The JSON schema of spec files, for editors: their keys, what each holds, what is required.

It says less than the loader, which alone knows names and shapes.
"""

from __future__ import annotations

from typing import Any

from lincodegen.spec import keys

_TEXT: dict[str, Any] = {"type": ["string", "number"]}
_NAME = "^[A-Za-z][A-Za-z0-9_]*$"
_SHAPE: dict[str, Any] = {"type": "array", "items": {"type": ["string", "integer"]}}


def schema() -> dict[str, Any]:
    """The schema as data; ``json.dumps(schema(), indent=2)`` is schema/lincodegen.schema.json."""
    tensor = _object(keys.TENSOR, {"shape": _SHAPE}, ["shape"])
    state = _object(keys.STATE, {"shape": _SHAPE}, ["shape"])
    special: dict[str, dict[str, Any]] = {
        "name": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
        "inputs": {**_named(tensor), "minProperties": 1},
        "parameters": _named(tensor),
        "constants": _named(_TEXT),
        "state": _named(state),
        "outputs": {"type": "array", "items": {"type": "string", "pattern": _NAME}, "minItems": 1},
        "step": {"type": "string", "minLength": 1},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lincodegen spec",
        **_object(keys.FILE, special, list(keys.REQUIRED)),
    }


def _object(
    docs: dict[str, str], special: dict[str, dict[str, Any]], required: list[str]
) -> dict[str, Any]:
    properties = {key: {"description": doc, **special.get(key, _TEXT)} for key, doc in docs.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _named(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "propertyNames": {"pattern": _NAME}, "additionalProperties": value}
