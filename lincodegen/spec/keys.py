"""The keys of a spec file, what each holds, and which are named but not supported."""

from __future__ import annotations

from lincodegen.spec.document import Mapping, Scalar, Sequence, Value
from lincodegen.spec.problems import Mistake, Problems, nearest, shortened
from lincodegen.spec.step import Place

FILE = {
    "name": "Names the op and its package: lower case letters, digits, underscores.",
    "title": "The recurrence's usual name.",
    "reference": "Where it is published.",
    "doc": "What a reader should know.",
    "inputs": "Tensors with one value a token and head: [B, T, H, *shape].",
    "parameters": "Tensors with one value a head: [H, *shape].",
    "constants": "Integers fix sizes when the op is built; other numbers are keyword arguments.",
    "state": "The values carried from token to token, zero before the first.",
    "outputs": "Names of the results: locals or states. Default: [o].",
    "step": "The token program: assignments and loops in NumPy notation.",
}
TENSOR = {
    "shape": "Integers, integer constants and dimensions (capitalised names).",
    "domain": "Interval that every element lies in, such as '[-inf, 0]'.",
    "norm": "Interval of the Euclidean norm over the last axis.",
    "default": "Value where the argument is left out: constants, dimensions, h and H.",
    "doc": "What the tensor is.",
}
STATE = {"shape": "Integer polynomials of the dimensions; rank 0, 1 or 2."}
REQUIRED = ("name", "inputs", "step")
LATER = {"file": {"direction"}, "tensor": {"dtype"}, "state": {"init", "dtype", "direction"}}


def check_keys(
    mapping: Mapping, known: dict[str, str], kind: str, problems: Problems
) -> dict[str, Value]:
    """The values of the known keys; the others are recorded as mistakes."""
    values: dict[str, Value] = {}
    for key, value in mapping.entries:
        if key.text in known:
            values[key.text] = value
        elif key.text in LATER[kind]:
            problems.add(Mistake(key.place, f"`{key.text}:` is not yet supported"))
        else:
            found = f"the key {shortened(key.text)} of a {kind}"
            expected = "one of " + ", ".join(known)
            problems.add(Mistake(key.place, found, expected, nearest(key.text, known)))
    return values


def as_mapping(value: Value, what: str, example: str) -> Mapping:
    """The value as a mapping; an empty one may be written as nothing at all."""
    if isinstance(value, Scalar) and not value.text:
        return Mapping((), value.place)
    if not isinstance(value, Mapping):
        raise Mistake(value.place, f"{what} is no mapping", f"`{example}`")
    return value


def as_sequence(value: Value | None, what: str, example: str, place: Place) -> Sequence:
    """The value as a list."""
    if value is None:
        raise Mistake(place, f"{what} is missing", f"`{example}`")
    if not isinstance(value, Sequence):
        raise Mistake(value.place, f"{what} is no list", f"`{example}`")
    return value


def as_scalar(value: Value, what: str) -> Scalar:
    """The value as text."""
    if not isinstance(value, Scalar):
        raise Mistake(value.place, f"{what} is no text", "text or a number")
    return value
