"""Constructors of expression nodes: shapes inferred and checked, numbers folded."""

from __future__ import annotations

from lincodegen.spec import folding, polynomials
from lincodegen.spec.dims import Dim
from lincodegen.spec.folding import Number
from lincodegen.spec.problems import Mistake
from lincodegen.spec.shapes import broadcast, matmul, shown, vector
from lincodegen.spec.step import Node, Place, Shape

SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%"}


def number(value: Number, place: Place) -> Node:
    """A literal."""
    return Node("number", (), (value,), (), place)


def size(dim: Dim, place: Place) -> Node:
    """The value of a dimension; a number where it is fixed."""
    if dim.constant is not None:
        return number(dim.constant, place)
    return Node("size", (), (dim,), (), place)


def value_of(node: Node) -> Number | None:
    """The number that a node is, or None."""
    value = node.attr[0] if node.op == "number" else None
    return value if isinstance(value, (int, float)) else None


def binary(op: str, a: Node, b: Node, place: Place) -> Node:
    """add, sub, mul, div (floordiv, mod between scalars), or the power a ** b."""
    x, y = value_of(a), value_of(b)
    if x is not None and y is not None:
        return number(folding.binary(op, x, y, place), place)
    if op == "pow":
        return _power(a, b, place)
    shape = broadcast((a, b), place, f"`{SYMBOLS[op]}`")
    if op == "div" and y == 0:
        raise Mistake(place, "a division by zero", "a divisor other than 0")
    return Node(op, (a, b), (), shape, place)


def _power(a: Node, b: Node, place: Place) -> Node:
    base, exponent = value_of(a), value_of(b)
    if exponent is not None:
        return Node("pow", (a,), (exponent,), a.shape, place)
    if base is None:
        found = "a power with neither a constant exponent nor a constant base"
        expected = "a number known when the spec is read, on one side of `**`"
        raise Mistake(place, found, expected, "write `exp(y * log(x))` for x > 0")
    if base <= 0:
        raise Mistake(place, f"a power of the base {base}", "a positive constant base")
    return Node("exp_base", (b,), (float(base),), b.shape, place)


def unary(op: str, a: Node, place: Place) -> Node:
    """neg and the elementwise functions of one operand."""
    x = value_of(a)
    if x is not None and op in ("neg", "sqrt", "exp", "log"):
        return number(folding.unary(op, x, place), place)
    return Node(op, (a,), (), a.shape, place)


def elementwise(op: str, args: tuple[Node, ...], place: Place, comparison: str = "") -> Node:
    """maximum, minimum and where, over broadcast operands."""
    attr = (comparison,) if comparison else ()
    return Node(op, args, attr, broadcast(args, place, f"`{op}`"), place)


def product(a: Node, b: Node, place: Place) -> Node:
    """``a @ b``."""
    return Node("matmul", (a, b), (), matmul(a, b, place), place)


def transpose(a: Node, place: Place) -> Node:
    """``a.T`` of a matrix."""
    if len(a.shape) != 2:
        raise Mistake(place, f"`.T` of the shape {shown(a.shape)}", "a matrix")
    return Node("transpose", (a,), (), (a.shape[1], a.shape[0]), place)


def outer(a: Node, b: Node, place: Place) -> Node:
    """``a b^T`` of two vectors."""
    shape = (vector(a, "`outer`"), vector(b, "`outer`"))
    return Node("outer", (a, b), (), shape, place)


def dot(a: Node, b: Node, place: Place) -> Node:
    """``a^T b`` of two vectors of one size."""
    if vector(a, "`dot`") != vector(b, "`dot`"):
        found = f"`dot` of the shapes {shown(a.shape)} and {shown(b.shape)}"
        raise Mistake(place, found, "vectors of one size")
    return Node("dot", (a, b), (), (), place)


def diag(a: Node, place: Place) -> Node:
    """The diagonal matrix of a vector."""
    return Node("diag", (a,), (), (vector(a, "`diag`"),) * 2, place)


def ravel(a: Node, place: Place) -> Node:
    """All entries as a vector, in row order."""
    if not a.shape:
        raise Mistake(place, "`ravel` of a scalar", "a vector or a matrix")
    total = Dim.of(1)
    for axis in a.shape:
        total = polynomials.product(total, axis, place)
    return Node("ravel", (a,), (), (total,), place)


def concat(args: tuple[Node, ...], place: Place) -> Node:
    """Operands one after another on the first axis; the other axes are equal."""
    first = args[0]
    total = Dim.of(0)
    for node in args:
        if not node.shape:
            hint = "make it a vector: `x * ones(1)`"
            raise Mistake(node.place, "`concat` of a scalar", "vectors or matrices", hint)
        if node.shape[1:] != first.shape[1:]:
            found = f"`concat` of the shapes {shown(first.shape)} and {shown(node.shape)}"
            raise Mistake(place, found, "equal sizes on every axis but the first")
        total = polynomials.bounded(total + node.shape[0], place)
    return Node("concat", args, (), (total, *first.shape[1:]), place)


def reduction(op: str, a: Node, axis: int | None, place: Place) -> Node:
    """sum or mean, over one axis or over everything."""
    shape: Shape = () if axis is None else a.shape[:axis] + a.shape[axis + 1 :]
    return Node(op, (a,), (axis,), shape, place)


def last_axis(op: str, a: Node, place: Place) -> Node:
    """cumsum, softmax and the norms, over the last axis."""
    if not a.shape:
        raise Mistake(place, f"`{op}` of a scalar", "a vector or a matrix")
    attr = (len(a.shape) - 1,) if op in ("cumsum", "softmax") else ()
    return Node(op, (a,), attr, a.shape, place)
