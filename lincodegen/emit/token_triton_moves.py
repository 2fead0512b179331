"""Triton text of the operations that move entries: rows, slices, concatenation, reshapes.

A tile has no slices. Rows are picked and placed by masks, runs of entries by ``tl.gather``.
"""

from __future__ import annotations

from lincodegen.emit.token_python import ATOM, TERNARY, Text, size_text
from lincodegen.emit.token_triton_expression import Printer, TileExpressions
from lincodegen.errors import InternalError
from lincodegen.program.token_shapes import ONE
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node


def squeezed(text: TileExpressions, operand: Node, axis: int) -> Text:
    """A tile without an axis of size 1."""
    return f"tl.sum({text.print(operand)}, axis={axis})", ATOM


def expand(text: TileExpressions, node: Node) -> Text:
    """A tile with an axis of size 1 more."""
    operand = node.args[0]
    if text.is_scalar(operand):
        return text.text(operand)
    return (text.column(operand) if node.attr[0] == 1 else text.row(operand)), ATOM


def squeeze(text: TileExpressions, node: Node) -> Text:
    """A value without an axis of size 1, which a scalar does not have as a tile."""
    operand = node.args[0]
    return (
        text.text(operand)
        if text.is_scalar(operand)
        else squeezed(text, operand, int(str(node.attr[0])))
    )


def _equal(text: TileExpressions, node: Node) -> str:
    """Where a matrix's row and column are the same."""
    return f"{text.offsets(node.shape, 0)} == {text.offsets(node.shape, 1)}"


def _eye(text: TileExpressions, node: Node) -> Text:
    return (
        ("1.0", ATOM)
        if text.is_scalar(node)
        else (f"tl.where({_equal(text, node)}, 1.0, 0.0)", ATOM)
    )


def _diag(text: TileExpressions, node: Node) -> Text:
    if text.is_scalar(node):
        return text.text(node.args[0])
    return f"tl.where({_equal(text, node)}, {text.column(node.args[0])}, 0.0)", ATOM


def _diagonal(text: TileExpressions, node: Node) -> Text:
    operand = node.args[0]
    if text.is_scalar(operand):
        return text.text(operand)
    return f"tl.sum(tl.where({_equal(text, operand)}, {text.print(operand)}, 0.0), axis=1)", ATOM


def _index(text: TileExpressions, node: Node) -> Text:
    operand = node.args[0]
    if operand.shape[0] == ONE:
        return squeeze(text, Node("squeeze", (operand,), (0,), node.shape))
    chosen = f"{text.offsets(operand.shape, 0)} == {_position(node, operand.shape[0])}"
    return f"tl.sum(tl.where({chosen}, {text.print(operand)}, 0.0), axis=0)", ATOM


def _unindex(text: TileExpressions, node: Node) -> Text:
    operand = node.args[0]
    if node.shape[0] == ONE:
        return expand(text, Node("expand", (operand,), (0,), node.shape))
    chosen = f"{text.offsets(node.shape, 0)} == {_position(node, node.shape[0])}"
    return f"tl.where({chosen}, {text.operand(operand, node, TERNARY)}, 0.0)", ATOM


def _position(node: Node, size: Dim) -> str:
    index = int(str(node.attr[0]))
    return str(index) if index >= 0 else size_text(size + index)


def _stack(text: TileExpressions, node: Node) -> Text:
    """Rows chosen by the position on the first axis."""
    rows = [text.operand(arg, node, TERNARY) for arg in node.args]
    if len(rows) == 1:
        return rows[0], ATOM
    position = text.offsets(node.shape, 0)
    chosen = f"tl.where({position} == {len(rows) - 1}, {rows[-1]}, 0.0)"
    for i in reversed(range(len(rows) - 1)):
        chosen = f"tl.where({position} == {i}, {rows[i]}, {chosen})"
    return chosen, ATOM


def _moved(text: TileExpressions, operand: Node, node: Node, shift: Dim) -> str:
    """The operand read ``shift`` entries further along the first axis, unmasked."""
    source, target = operand.shape[0], node.shape[0]
    function = "take" if len(node.shape) == 1 else "take_rows"
    text.functions.add(function)
    offsets = text.axes.axis(target).offsets if target != ONE else "tl.arange(0, 1)"
    moved = f"{offsets}{_shift_text(shift)}"
    tile = text.axes.axis(source).tile
    return f"{function}({text.print(operand)}, {moved}, {tile})"


def _shift_text(shift: Dim) -> str:
    """``+ R`` or ``- R``, nothing for 0; sums in brackets."""
    if shift == Dim.of(0):
        return ""
    text = size_text(shift)
    if len(shift.terms) == 1:
        return f" - {text[1:]}" if text.startswith("-") else f" + {text}"
    return f" + ({text})"


def _slice(text: TileExpressions, node: Node) -> Text:
    operand, start = node.args[0], node.attr[0]
    if operand.shape[0] == ONE or not isinstance(start, Dim):
        return text.text(operand)
    taken = _moved(text, operand, node, start)
    if node.shape[0] == ONE:
        return (f"tl.sum({taken}, axis=0)" if len(node.shape) == 1 else taken), ATOM
    return _selected(text, node, taken), ATOM


def _selected(text: TileExpressions, node: Node, taken: str) -> str:
    mask = text.axes.mask_text(node.shape, [0])
    return f"tl.where({mask}, {taken}, 0.0)" if mask else taken


def _unslice(text: TileExpressions, node: Node) -> Text:
    start, stop = node.attr
    if not isinstance(start, Dim) or not isinstance(stop, Dim):
        raise InternalError("a slice without bounds")
    return _placed(text, node, node.args[0], start, stop, "0.0"), ATOM


def _placed(
    text: TileExpressions, node: Node, part: Node, start: Dim, stop: Dim, other: str
) -> str:
    """``part`` from ``start`` to ``stop`` of the first axis, ``other`` elsewhere."""
    offsets = text.offsets(node.shape, 0)
    inside = f"({offsets} >= {size_text(start)}) & ({offsets} < {size_text(stop)})"
    if part.shape[0] == ONE:
        value = text.operand(part, node, TERNARY)
    else:
        value = _moved(text, part, node, start * -1)
    return f"tl.where({inside}, {value}, {other})"


def _concat(text: TileExpressions, node: Node) -> Text:
    chosen, stop = "0.0", node.shape[0]
    for part in reversed(node.args):
        start = stop - part.shape[0]
        chosen = _placed(text, node, part, start, stop, chosen)
        stop = start
    return chosen, ATOM


def _ravel(text: TileExpressions, node: Node) -> Text:
    operand = node.args[0]
    if len(operand.shape) == 1 or text.is_scalar(operand):
        return text.text(operand)
    if operand.shape[0] == ONE or operand.shape[1] == ONE:
        return squeezed(text, operand, 0 if operand.shape[0] == ONE else 1)
    text.functions.add("ravel")
    rows, columns = (text.axes.axis(d) for d in operand.shape)
    flat = text.axes.axis(node.shape[0])
    call = (
        f"ravel({text.print(operand)}, {flat.offsets}, {columns.size}, {rows.tile}, {columns.tile})"
    )
    return _selected(text, node, call), ATOM


def _unravel(text: TileExpressions, node: Node) -> Text:
    operand = node.args[0]
    if len(node.shape) == 1 or text.is_scalar(operand):
        return text.text(operand)
    if node.shape[0] == ONE or node.shape[1] == ONE:
        return expand(text, Node("expand", (operand,), (int(node.shape[1] == ONE),), node.shape))
    text.functions.add("unravel")
    rows, columns = (text.axes.axis(d) for d in node.shape)
    flat = text.axes.axis(operand.shape[0])
    call = (
        f"unravel({text.print(operand)}, {rows.offsets}, {columns.offsets}, {columns.size}, "
        f"{flat.tile})"
    )
    mask = text.axes.mask_text(node.shape)
    return (f"tl.where({mask}, {call}, 0.0)" if mask else call), ATOM


MOVES: dict[str, Printer] = {
    "expand": expand,
    "squeeze": squeeze,
    "eye": _eye,
    "diag": _diag,
    "diagonal": _diagonal,
    "index": _index,
    "unindex": _unindex,
    "stack": _stack,
    "slice": _slice,
    "unslice": _unslice,
    "concat": _concat,
    "ravel": _ravel,
    "unravel": _unravel,
}
