"""Shapes of token-level values: what an operation makes of the shapes of its operands."""

from __future__ import annotations

from collections.abc import Callable

from lincodegen.errors import InternalError
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import LEAVES, Attr, Shape

ONE = Dim.of(1)
UNARY = frozenset(
    (
        *(
            "neg",
            "pow",
            "exp_base",
            "exp",
            "log",
            "safe_log",
            "log1p",
            "sigmoid",
            "logsigmoid",
            "softplus",
        ),
        *("silu", "gelu", "tanh", "relu", "elu", "abs", "sign", "sqrt", "rsqrt", "erf", "finite"),
    )
)
ELEMENTWISE = UNARY | {"add", "sub", "mul", "div", "maximum", "minimum", "where"}
TOKEN_LEAVES = LEAVES | {"value", "part"}


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
    if op in _SAME:
        return shapes[0]
    if op not in _SHAPES:
        raise InternalError(f"the shape of {op!r} does not follow from its operands")
    return _SHAPES[op](shapes, attr)


def _axis(attr: Attr) -> int:
    if not isinstance(attr[0], int):
        raise InternalError(f"axis {attr[0]!r} is no integer")
    return attr[0]


def _inserted(shapes: list[Shape], attr: Attr) -> Shape:
    axis = _axis(attr)
    return (*shapes[0][:axis], ONE, *shapes[0][axis:])


def _removed(shapes: list[Shape], attr: Attr) -> Shape:
    axis = _axis(attr)
    return (*shapes[0][:axis], *shapes[0][axis + 1 :])


def _reduced(shapes: list[Shape], attr: Attr) -> Shape:
    return () if attr[0] is None else _removed(shapes, attr)


def _product(shapes: list[Shape], attr: Attr) -> Shape:
    return shapes[0][:-1] + (shapes[1][1:] if len(shapes[1]) == 2 else ())


_SAME = frozenset(
    (
        *("cumsum", "rcumsum", "softmax"),
        *("l2norm", "rmsnorm", "layernorm", "zeros_like"),
    )
)
_SHAPES: dict[str, Callable[[list[Shape], Attr], Shape]] = {
    "matmul": _product,
    "transpose": lambda shapes, attr: shapes[0][::-1],
    "outer": lambda shapes, attr: shapes[0] + shapes[1],
    "diag": lambda shapes, attr: shapes[0] * 2,
    "diagonal": lambda shapes, attr: shapes[0][:1],
    "dot": lambda shapes, attr: (),
    "index": lambda shapes, attr: shapes[0][1:],
    "expand": _inserted,
    "squeeze": _removed,
    "sum": _reduced,
    "mean": _reduced,
    "stack": lambda shapes, attr: (Dim.of(len(shapes)), *shapes[0]),
}
