"""Shapes of token-level values: what an operation makes of the shapes of its operands."""

from __future__ import annotations

from lincodegen.errors import InternalError
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import LEAVES, Attr, Shape

ONE = Dim.of(1)
UNARY = frozenset(
    "neg pow exp_base exp log log1p sigmoid logsigmoid softplus silu gelu tanh relu elu abs sign "
    "sqrt rsqrt erf finite".split()
)
ELEMENTWISE = UNARY | frozenset("add sub mul div maximum minimum where".split())
TOKEN_LEAVES = LEAVES | {"value"}


def broadcast_shape(left: Shape, right: Shape) -> Shape:
    """NumPy's result shape of an elementwise operation."""
    rank = max(len(left), len(right))
    pairs = zip(_padded(left, rank), _padded(right, rank), strict=True)
    return tuple(b if a == ONE else a for a, b in pairs)


def _padded(shape: Shape, rank: int) -> Shape:
    return (ONE,) * (rank - len(shape)) + shape


def infer_shape(op: str, shapes: list[Shape], attr: Attr) -> Shape:
    """The shape of a value, for operations whose operands settle it."""
    if op in ELEMENTWISE:
        result: Shape = ()
        for shape in shapes:
            result = broadcast_shape(result, shape)
        return result
    match op:
        case "matmul":
            return shapes[0][:-1] + (shapes[1][1:] if len(shapes[1]) == 2 else ())
        case "transpose":
            return shapes[0][::-1]
        case "outer":
            return shapes[0] + shapes[1]
        case "diag":
            return shapes[0] * 2
        case "diagonal":
            return shapes[0][:1]
        case "dot":
            return ()
        case "index":
            return shapes[0][1:]
        case "expand":
            return _inserted(shapes[0], int(str(attr[0])), ONE)
        case "squeeze":
            return _removed(shapes[0], int(str(attr[0])))
        case "sum" | "mean":
            return () if attr[0] is None else _removed(shapes[0], int(str(attr[0])))
        case "cumsum" | "rcumsum" | "softmax" | "l2norm" | "rmsnorm" | "layernorm" | "zeros_like":
            return shapes[0]
        case "stack":
            return (Dim.of(len(shapes)), *shapes[0])
        case _:
            raise InternalError(f"the shape of {op!r} does not follow from its operands")


def _inserted(shape: Shape, axis: int, size: Dim) -> Shape:
    return (*shape[:axis], size, *shape[axis:])


def _removed(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])
