"""Integer expressions of shapes, ranges, indices and slices, read to dimension polynomials."""

from __future__ import annotations

import ast
from collections.abc import Callable

from lincodegen.spec.dims import Dim
from lincodegen.spec.folding import INTEGER_LIMIT
from lincodegen.spec.problems import Mistake
from lincodegen.spec.step import Place

Places = Callable[[ast.expr], Place]
Sizes = Callable[[str, Place], Dim]

_MAX_TERMS = 64
_MAX_DEGREE = 8
_EXPECTED = "an integer expression of constants and dimensions"


def polynomial(tree: ast.expr, places: Places, sizes: Sizes) -> Dim:
    """The polynomial that an expression of integers, ``+ - *`` and names stands for.

    ``//`` and ``%`` act on integers alone; a power has a small integer exponent.
    """
    place = places(tree)
    match tree:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return bounded(Dim.of(value), place)
        case ast.Constant(value=float(value)):
            hint = f"write `{int(value)}`" if value.is_integer() else ""
            raise Mistake(place, f"the number {value} is no integer", _EXPECTED, hint)
        case ast.Name(id=name):
            return sizes(name, place)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return polynomial(operand, places, sizes) * -1
        case ast.BinOp(left=left, op=op, right=right):
            a, b = polynomial(left, places, sizes), polynomial(right, places, sizes)
            return bounded(_binary(op, a, b, place), place)
        case _:
            raise Mistake(place, "this is no integer expression", _EXPECTED)


def integer(tree: ast.expr, places: Places, sizes: Sizes) -> int:
    """The value of an integer expression without dimensions of unknown size."""
    dim = polynomial(tree, places, sizes)
    if dim.constant is None:
        free = sorted(dim.names)[0]
        found = f"`{dim}` is not known before the call"
        hint = f"a constant `{free}: 64` fixes the dimension"
        raise Mistake(places(tree), found, "an integer of constants and loop variables", hint)
    return dim.constant


def _binary(op: ast.operator, a: Dim, b: Dim, place: Place) -> Dim:
    if isinstance(op, ast.Add):
        return a + b
    if isinstance(op, ast.Sub):
        return a - b
    if isinstance(op, ast.Mult):
        return product(a, b, place)
    if isinstance(op, ast.Pow):
        return _power(a, b, place)
    if isinstance(op, (ast.FloorDiv, ast.Mod)):
        return _quotient(op, a, b, place)
    hint = "`//` divides integers" if isinstance(op, ast.Div) else ""
    raise Mistake(place, "this operator makes no integer", "`+ - * // %` and `**`", hint)


def _quotient(op: ast.operator, a: Dim, b: Dim, place: Place) -> Dim:
    if a.constant is None or b.constant is None:
        hint = "name the smaller size, `R`, and write `2 * R` for the larger one"
        raise Mistake(place, "a division of a dimension", "a polynomial of dimensions", hint)
    if b.constant == 0:
        raise Mistake(place, "a division by zero", "a divisor other than 0")
    floor = isinstance(op, ast.FloorDiv)
    return Dim.of(a.constant // b.constant if floor else a.constant % b.constant)


def _power(a: Dim, b: Dim, place: Place) -> Dim:
    exponent = b.constant
    limit = 64 if a.constant is not None else _MAX_DEGREE
    if exponent is None or not 0 <= exponent <= limit:
        raise Mistake(place, f"the exponent `{b}`", f"an integer from 0 to {limit}")
    total = Dim.of(1)
    for _ in range(exponent):
        total = product(total, a, place)
    return total


def product(a: Dim, b: Dim, place: Place) -> Dim:
    """The bounded product of two polynomials."""
    if len(a.terms) * len(b.terms) > _MAX_TERMS**2:
        raise Mistake(place, "a polynomial of too many terms", f"at most {_MAX_TERMS}")
    return bounded(a * b, place)


def bounded(dim: Dim, place: Place) -> Dim:
    """The polynomial itself, if it is of a size that a shape may have."""
    if len(dim.terms) > _MAX_TERMS or any(len(m) > _MAX_DEGREE for m, _ in dim.terms):
        expected = f"at most {_MAX_TERMS} terms, degree {_MAX_DEGREE}"
        raise Mistake(place, "a polynomial that is too large", expected)
    if any(abs(c) > INTEGER_LIMIT for _, c in dim.terms):
        raise Mistake(place, "an integer that is too large", "at most 2**53")
    return dim
