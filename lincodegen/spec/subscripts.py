"""Indices, slices and inserted axes: ``x[j]``, ``x[a:b]``, ``x[:, None]``."""

from __future__ import annotations

import ast

from lincodegen.spec.dims import Dim
from lincodegen.spec.problems import Mistake
from lincodegen.spec.reader import Reader
from lincodegen.spec.shapes import ONE, shown, smallest
from lincodegen.spec.step import Node, Place

MAX_RANK = 8


def subscript(reader: Reader, operand: Node, tree: ast.Subscript) -> Node:
    """The nodes of ``operand[items]``: leading integers, one slice, full axes and None."""
    items = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
    place = reader.place(tree)
    node, axis = operand, 0
    for item in items:
        if isinstance(item, ast.Constant) and item.value is None:
            if len(node.shape) >= MAX_RANK:
                raise Mistake(place, f"an array of more than {MAX_RANK} axes", "fewer axes")
            shape = (*node.shape[:axis], ONE, *node.shape[axis:])
            node = Node("expand", (node,), (axis,), shape, place)
            axis += 1
            continue
        _check_axis(operand, node, axis, item, reader.place(item))
        if isinstance(item, ast.Slice):
            node = _slice(reader, node, axis, item)
            axis += 1
        else:
            node = _index(reader, node, item)
    return node


def _check_axis(operand: Node, node: Node, axis: int, item: ast.expr, place: Place) -> None:
    if axis >= len(node.shape):
        found = f"too many indices for the shape {shown(operand.shape)}"
        raise Mistake(place, found, f"at most {len(operand.shape)}")
    if axis > 0 and not (isinstance(item, ast.Slice) and item.lower is item.upper is None):
        hint = "bring the axis to the front: `x.T[j]`"
        raise Mistake(place, "an index or slice behind the first axis", "`:` or `None`", hint)


def _index(reader: Reader, node: Node, item: ast.expr) -> Node:
    place, size = reader.place(item), node.shape[0]
    index = reader.integer(item)
    if index < 0 and size.constant is not None:
        index += size.constant
    least = smallest(size)
    if index < 0 or least is None or index >= least:
        found = f"the index {index} into an axis of size {size}"
        known = size.constant is not None
        hint = "" if known else "slices take dimensions: `x[a:b]`; a constant fixes a dimension"
        raise Mistake(place, found, f"at most {least - 1 if least else 0}", hint)
    return Node("index", (node,), (index,), node.shape[1:], place)


def _slice(reader: Reader, node: Node, axis: int, item: ast.Slice) -> Node:
    place = reader.place(item)
    if item.step is not None:
        raise Mistake(place, "a slice with a step", "`x[a:b]`")
    if item.lower is None and item.upper is None:
        return node
    size = node.shape[axis]
    start = _bound(reader, item.lower, size, Dim.of(0))
    stop = _bound(reader, item.upper, size, size)
    for least, what in ((start, start), (stop - start, stop - start), (size - stop, stop)):
        bound = smallest(least)
        if bound is None or bound < 0 or (stop - start).constant == 0:
            found = f"the slice {start} : {stop} of an axis of size {size}"
            raise Mistake(place, found, f"bounds inside of the axis; {what} is not")
    shape = (stop - start, *node.shape[1:])
    return Node("slice", (node,), (start, stop), shape, place)


def _bound(reader: Reader, tree: ast.expr | None, size: Dim, default: Dim) -> Dim:
    if tree is None:
        return default
    bound = reader.dim(tree)
    if len(bound.terms) > 1 or any(len(monomial) > 1 for monomial, _ in bound.terms):
        found = f"the bound `{bound}`"
        raise Mistake(reader.place(tree), found, "a constant or a multiple of a dimension")
    negative = bound.constant is not None and bound.constant < 0
    return size + bound if negative and size.constant is not None else bound
