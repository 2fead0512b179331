"""Shapes of the results of array operations, over dimension polynomials, as NumPy has them."""

from __future__ import annotations

from lincodegen.spec.dims import Dim
from lincodegen.spec.problems import Mistake
from lincodegen.spec.step import Node, Place, Shape

ONE = Dim.of(1)


def shown(shape: Shape) -> str:
    """A shape as specs write it: ``[K, V]``."""
    return "[" + ", ".join(str(size) for size in shape) + "]"


def smallest(size: Dim) -> int | None:
    """The least value of a polynomial over sizes >= 1; None where a coefficient is negative."""
    if any(monomial and c < 0 for monomial, c in size.terms):
        return None
    return sum(c for _, c in size.terms)


def broadcast(nodes: tuple[Node, ...], place: Place, what: str) -> Shape:
    """The common shape of operands, aligned from the right; equal sizes or 1."""
    shape: Shape = ()
    for node in nodes:
        longer, shorter = sorted((shape, node.shape), key=len, reverse=True)
        padded = (ONE,) * (len(longer) - len(shorter)) + shorter
        for one, other in zip(longer, padded, strict=True):
            if one != other and ONE not in (one, other):
                shapes = " and ".join(shown(n.shape) for n in nodes)
                hint = "write the missing axis: `x[:, None]` or `x[None, :]`"
                raise Mistake(
                    place, f"{what} of the shapes {shapes}", f"sizes like {one} = {other}", hint
                )
        shape = tuple(b if a == ONE else a for a, b in zip(longer, padded, strict=True))
    return shape


def matmul(a: Node, b: Node, place: Place) -> Shape:
    """The shape of ``a @ b`` for vectors and matrices."""
    found = f"`@` of the shapes {shown(a.shape)} and {shown(b.shape)}"
    if not (1 <= len(a.shape) <= 2 and 1 <= len(b.shape) <= 2):
        hint = "`*` and `@` bind alike, left to right: `w * (S.T @ q)`"
        raise Mistake(place, found, "vectors or matrices on both sides", hint)
    if a.shape[-1] != b.shape[0]:
        hint = _transposition(a.shape, b.shape)
        raise Mistake(place, found, f"inner sizes like {a.shape[-1]} = {b.shape[0]}", hint)
    return a.shape[:-1] + b.shape[1:]


def _transposition(a: Shape, b: Shape) -> str:
    if len(a) == 2 and a[0] == b[0]:
        return "transpose the left matrix: `.T`"
    if len(b) == 2 and a[-1] == b[-1]:
        return "transpose the right matrix: `.T`"
    return ""


def vector(node: Node, what: str) -> Dim:
    """The size of an operand that must be a vector."""
    if len(node.shape) != 1:
        found = f"{what} of the shape {shown(node.shape)}"
        raise Mistake(node.place, found, "a vector")
    return node.shape[0]
