"""Expressions of constants and dimensions as Python text, for what a call evaluates once."""

from __future__ import annotations

from collections.abc import Mapping

from lincodegen.emit.token_python import (
    ATOM,
    POWER,
    PRODUCT,
    SIGN,
    SUM,
    Text,
    at_least,
    number_text,
    power_text,
    size_text,
)
from lincodegen.errors import EmitError
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node

_INFIX = {
    "add": ("+", SUM),
    "sub": ("-", SUM),
    "mul": ("*", PRODUCT),
    "div": ("/", PRODUCT),
    "floordiv": ("//", PRODUCT),
    "mod": ("%", PRODUCT),
}
_CALLS = {"sqrt": "math.sqrt", "exp": "math.exp", "log": "math.log"}


def scalar_text(node: Node, names: Mapping[str, str] | None = None) -> str:
    """The expression, over the names of constants and dimensions.

    ``names`` says what the text calls constants, where not by their own names.

    Raises:
        EmitError: the expression is none of constants alone.
    """
    return _text(node, names or {})[0]


def _text(node: Node, names: Mapping[str, str]) -> Text:
    match node.op, node.args:
        case ("number", ()):
            value = node.attr[0]
            if not isinstance(value, int | float):
                raise EmitError(f"the literal {value!r} is no number")
            return number_text(value), SIGN if str(value).startswith("-") else ATOM
        case ("size", ()):
            dim = node.attr[0]
            if not isinstance(dim, Dim):
                raise EmitError(f"{dim!r} is no size")
            text = size_text(dim)
            return text, ATOM if text.isidentifier() else SUM
        case ("constant", ()):
            return names.get(str(node.attr[0]), str(node.attr[0])), ATOM
        case ("neg", (operand,)):
            return f"-{at_least(_text(operand, names), SIGN)}", SIGN
        case ("pow", (base,)):
            exponent = node.attr[0]
            return power_text(
                at_least(_text(base, names), ATOM), number_text(_number(exponent))
            ), POWER
        case ("exp_base", (exponent,)):
            base = number_text(_number(node.attr[0]))
            return power_text(base, at_least(_text(exponent, names), SIGN)), POWER
        case (op, (left, right)) if op in _INFIX:
            sign, precedence = _INFIX[op]
            first, second = (
                at_least(_text(left, names), precedence),
                at_least(_text(right, names), precedence + 1),
            )
            return f"{first} {sign} {second}", precedence
        case (op, (operand,)) if op in _CALLS:
            return f"{_CALLS[op]}({_text(operand, names)[0]})", ATOM
    raise EmitError(f"`{node.op}` in an expression of constants")


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise EmitError(f"{value!r} is no number")
    return value
