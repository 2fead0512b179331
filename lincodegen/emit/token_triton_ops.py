"""Triton text of the token operations that are more than an infix."""

from __future__ import annotations

import math

from lincodegen.emit.token_padding import Pad
from lincodegen.emit.token_python import (
    ATOM,
    PRODUCT,
    SIGN,
    SUM,
    TERNARY,
    Text,
    at_least,
    number_text,
    size_text,
)
from lincodegen.emit.token_tiles import numel
from lincodegen.emit.token_triton_expression import Printer, TileExpressions
from lincodegen.emit.token_triton_moves import MOVES, squeezed
from lincodegen.errors import InternalError
from lincodegen.program.token_shapes import ONE
from lincodegen.spec.step import Node


def _neg(text: TileExpressions, node: Node) -> Text:
    operand = text.operand(node.args[0], node, PRODUCT)
    return (f"-({operand})" if operand.startswith("-") else f"-{operand}"), SIGN


def _power(text: TileExpressions, node: Node) -> Text:
    exponent = node.attr[0]
    if not isinstance(exponent, int | float):
        raise InternalError(f"exponent {exponent!r} is no number")
    base = at_least(text.text(node.args[0]), ATOM)
    if exponent == 0.5:
        return f"tl.sqrt({base})", ATOM
    if exponent == -0.5:
        return f"tl.rsqrt({base})", ATOM
    if exponent in {2, 3} and node.args[0].op == "value":
        return " * ".join([base] * int(exponent)), PRODUCT
    text.functions.add("integer_power" if float(exponent).is_integer() else "power")
    if float(exponent).is_integer():
        call = f"integer_power({base}, {abs(int(exponent))})"
        return (f"1.0 / {call}", PRODUCT) if exponent < 0 else (call, ATOM)
    return f"power({base}, {number_text(exponent)})", ATOM


def _exp_base(text: TileExpressions, node: Node) -> Text:
    base = float(str(node.attr[0]))
    exponent = text.operand(node.args[0], node, PRODUCT)
    if base == 2:
        return f"tl.exp2({exponent})", ATOM
    return f"tl.exp2({exponent} * {number_text(math.log2(base))})", ATOM


def _extremum(text: TileExpressions, node: Node) -> Text:
    args = ", ".join(text.operand(arg, node, TERNARY) for arg in node.args)
    return f"tl.{node.op}({args}, propagate_nan=tl.PropagateNan.ALL)", ATOM


def _relu(text: TileExpressions, node: Node) -> Text:
    operand = text.operand(node.args[0], node, TERNARY)
    return f"tl.maximum({operand}, 0.0, propagate_nan=tl.PropagateNan.ALL)", ATOM


def _where(text: TileExpressions, node: Node) -> Text:
    left, right, taken, other = (text.operand(arg, node, SUM) for arg in node.args)
    return f"tl.where({left} {node.attr[0]} {right}, {taken}, {other})", ATOM


def _matmul(text: TileExpressions, node: Node) -> Text:
    left, right = node.args
    ranks = len(left.shape), len(right.shape)
    if ranks == (1, 1):
        return _dot(text, node)
    if ranks == (2, 2):
        first = _contracted(text, left, 1, right, 0)
        second = text.print(right) if first else text.masked(right, [0])
        first = first or text.print(left)
        return f'tl.dot({first}, {second}, input_precision="ieee")', ATOM
    if ranks == (2, 1) and left.op == "transpose":
        return _weighted(text, left.args[0], right, 0)
    return _weighted(text, left, right, 1) if ranks == (2, 1) else _weighted(text, right, left, 0)


def _contracted(text: TileExpressions, left: Node, axis: int, right: Node, other: int) -> str:
    """The left operand masked where neither side makes the padding neutral, else empty."""
    pads = text.pads(left)[axis], text.pads(right)[other]
    if pads[0] is Pad.ANY or Pad.ZERO not in pads:
        return text.masked(left, [axis])
    return "" if pads[1] is Pad.ANY else text.print(left)


def _weighted(text: TileExpressions, matrix: Node, vector: Node, axis: int) -> Text:
    """A sum over one axis of a matrix, weighted by a vector along it."""
    laid = text.column(vector) if axis == 0 else text.row(vector)
    laid = text.operand(vector, vector, SIGN) if text.is_scalar(vector) else laid
    pads = text.pads(matrix)[axis], text.pads(vector)[0]
    product = f"{at_least(text.text(matrix), PRODUCT)} * {laid}"
    if Pad.ZERO not in pads or Pad.ANY in pads:
        product = f"tl.where({text.axes.mask_text(matrix.shape, [axis])}, {product}, 0.0)"
        product = product if text.axes.mask_text(matrix.shape, [axis]) else product[11:-6]
    return f"tl.sum({product}, axis={axis})", ATOM


def _dot(text: TileExpressions, node: Node) -> Text:
    left, right = node.args
    if text.is_scalar(left):
        return f"{text.operand(left, node, PRODUCT)} * {text.operand(right, node, SIGN)}", PRODUCT
    product = Node("mul", node.args, (), left.shape)
    return f"tl.sum({text.masked(product, [0])}, axis=0)", ATOM


def _outer(text: TileExpressions, node: Node) -> Text:
    left, right = node.args
    column = text.print(left) if text.is_scalar(left) else text.column(left)
    row = text.print(right) if text.is_scalar(right) else text.row(right)
    return f"{column} * {row}", PRODUCT


def _sum(text: TileExpressions, node: Node) -> Text:
    operand, axis = node.args[0], node.attr[0]
    if text.is_scalar(operand):
        return text.text(operand)
    rank = len(operand.shape)
    if axis is None:
        summed = f"tl.sum({text.masked(operand, list(range(rank)))})"
        return summed, ATOM
    axis = int(str(axis))
    if operand.shape[axis] == ONE:
        return squeezed(text, operand, axis)
    return f"tl.sum({text.masked(operand, [axis])}, axis={axis})", ATOM


def _mean(text: TileExpressions, node: Node) -> Text:
    operand, axis = node.args[0], node.attr[0]
    shape = operand.shape if axis is None else (operand.shape[int(str(axis))],)
    count = size_text(numel(shape))
    count = f"({count})" if " " in count else count
    return f"{_sum(text, node)[0]} / {count}", PRODUCT


def _cumsum(text: TileExpressions, node: Node) -> Text:
    axis = int(str(node.attr[0]))
    if node.op == "cumsum":
        return f"tl.cumsum({text.print(node.args[0])}, axis={axis})", ATOM
    return f"tl.cumsum({text.masked(node.args[0], [axis])}, axis={axis}, reverse=True)", ATOM


def _softmax(text: TileExpressions, node: Node) -> Text:
    text.functions.add("softmax")
    axis = int(str(node.attr[0]))
    masked = text.masked(node.args[0], [axis], 'float("-inf")')
    return f"softmax({masked}, {axis}, {len(node.shape)})", ATOM


def _broadcast(text: TileExpressions, node: Node) -> Text:
    operand, shape = text.operand(node.args[0], node, TERNARY), text.axes.shape_text(node.shape)
    if text.is_scalar(node):
        return text.text(node.args[0])
    if text.is_scalar(node.args[0]):
        return f"tl.full({shape}, {operand}, tl.float32)", ATOM
    return f"tl.broadcast_to({operand}, {shape})", ATOM


def _filled(text: TileExpressions, node: Node) -> Text:
    value = "1.0" if node.op == "ones" else "0.0"
    if text.is_scalar(node):
        return value, ATOM
    return f"tl.full({text.axes.shape_text(node.shape)}, {value}, tl.float32)", ATOM


PRINTERS: dict[str, Printer] = {
    **MOVES,
    "neg": _neg,
    "pow": _power,
    "exp_base": _exp_base,
    "maximum": _extremum,
    "minimum": _extremum,
    "relu": _relu,
    "where": _where,
    "matmul": _matmul,
    "dot": _dot,
    "outer": _outer,
    "sum": _sum,
    "mean": _mean,
    "cumsum": _cumsum,
    "rcumsum": _cumsum,
    "softmax": _softmax,
    "broadcast": _broadcast,
    "ones": _filled,
    "zeros": _filled,
    "zeros_like": _filled,
}
