"""What stands in the padding of a tile: decides which reductions must be masked.

Per axis of a value: ZERO, FINITE (as finite as the data itself) or ANY, which may be NaN.
An operand without an axis holds data there: FINITE.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from lincodegen.program.token_shapes import ELEMENTWISE, ONE
from lincodegen.spec.step import Node


class Pad(IntEnum):
    """The entries of a tile beyond its size."""

    ZERO = 0
    FINITE = 1
    ANY = 2


Pads = tuple[Pad, ...]
_KEEPS_ZERO = frozenset(("neg", "tanh", "relu", "silu", "gelu", "elu", "abs", "sign", "erf"))
_ZERO_ONLY = frozenset(("sqrt", "log1p"))
_TOTAL = frozenset(("exp", "exp_base", "sigmoid", "softplus", "logsigmoid"))


def pads_of(node: Node, below: Callable[[Node], Pads]) -> Pads:
    """The padding of a node's own result, from that of its operands."""
    if node.op in ELEMENTWISE:
        ranks = [(arg, below(arg)) for arg in node.args]
        return tuple(
            _elementwise(node, [_at(arg, pads, axis, node) for arg, pads in ranks])
            for axis in range(len(node.shape))
        )
    rule = _RULES.get(node.op)
    if rule is not None:
        return rule(node, [below(arg) for arg in node.args])
    return (Pad.ZERO,) * len(node.shape)


def _at(arg: Node, pads: Pads, axis: int, node: Node) -> Pad:
    """The padding of an operand along one axis of the result."""
    own = axis - len(node.shape) + len(arg.shape)
    if own < 0 or arg.shape[own] == ONE:
        return Pad.ZERO if node.shape[axis] == ONE else Pad.FINITE
    return pads[own]


def _elementwise(node: Node, pads: list[Pad]) -> Pad:
    worst = max(pads)
    match node.op:
        case "mul":
            return Pad.ZERO if min(pads) is Pad.ZERO and worst is not Pad.ANY else worst
        case "div":
            return pads[0] if _lacks(node.args[1], node) else Pad.ANY
        case "where":
            return max(pads[2:])
        case "finite":
            return Pad.ZERO if worst is Pad.ZERO else Pad.FINITE
        case "pow":
            return _power(node.attr[0], worst)
        case "log" | "rsqrt":
            return Pad.ANY
        case op if op in _TOTAL:
            return max(worst, Pad.FINITE)
        case op if op in _ZERO_ONLY:
            return worst if worst is Pad.ZERO else Pad.ANY
        case _:
            return worst


def _lacks(arg: Node, node: Node) -> bool:
    """Whether an operand is the same along every axis of the result."""
    return all(size == ONE for size in arg.shape) and bool(node.shape)


def _power(exponent: object, pad: Pad) -> Pad:
    if not isinstance(exponent, int | float) or exponent <= 0:
        return Pad.ANY
    return pad if pad is Pad.ZERO or float(exponent).is_integer() else Pad.ANY


def _matmul(node: Node, pads: list[Pads]) -> Pads:
    return (*pads[0][:-1], *pads[1][1:])


def _without(axis: object, pads: Pads) -> Pads:
    return () if axis is None else tuple(p for i, p in enumerate(pads) if i != axis)


def _cumsum(node: Node, pads: list[Pads]) -> Pads:
    axis = node.attr[0]
    rises = node.op == "cumsum"
    return tuple(max(p, Pad.FINITE) if i == axis and rises else p for i, p in enumerate(pads[0]))


def _softmax(node: Node, pads: list[Pads]) -> Pads:
    axis = node.attr[0]
    return tuple(Pad.ZERO if i == axis else max(p, Pad.FINITE) for i, p in enumerate(pads[0]))


def _expand(node: Node, pads: list[Pads]) -> Pads:
    axis = int(str(node.attr[0]))
    return (*pads[0][:axis], Pad.ZERO, *pads[0][axis:])


def _broadcast(node: Node, pads: list[Pads]) -> Pads:
    return tuple(_at(node.args[0], pads[0], axis, node) for axis in range(len(node.shape)))


_RULES: dict[str, Callable[[Node, list[Pads]], Pads]] = {
    "matmul": _matmul,
    "transpose": lambda node, pads: pads[0][::-1],
    "outer": lambda node, pads: (*pads[0], *pads[1]),
    "diag": lambda node, pads: pads[0] * 2,
    "diagonal": lambda node, pads: (max(pads[0]),),
    "sum": lambda node, pads: _without(node.attr[0], pads[0]),
    "mean": lambda node, pads: _without(node.attr[0], pads[0]),
    "cumsum": _cumsum,
    "rcumsum": _cumsum,
    "softmax": _softmax,
    "expand": _expand,
    "squeeze": lambda node, pads: _without(node.attr[0], pads[0]),
    "broadcast": _broadcast,
    "index": lambda node, pads: pads[0][1:],
    "unindex": lambda node, pads: (Pad.ZERO, *pads[0]),
    "ones": lambda node, pads: (Pad.FINITE,) * len(node.shape),
    "eye": lambda node, pads: (Pad.FINITE,) * len(node.shape),
}
