"""The functions of the spec language: how many operands each takes and what it makes of them."""

from __future__ import annotations

import ast
from collections.abc import Callable

from lincodegen.spec import nodes
from lincodegen.spec.problems import Mistake
from lincodegen.spec.reader import Reader
from lincodegen.spec.shapes import shown, smallest
from lincodegen.spec.step import Node, Place
from lincodegen.spec.vocabulary import ELEMENTWISE, LAST_AXIS

Call = Callable[[Reader, str, ast.Call, Place], Node]


def _operands(reader: Reader, name: str, tree: ast.Call, count: int) -> tuple[Node, ...]:
    """The operands of a call that takes ``count`` of them and no keyword."""
    if tree.keywords:
        keyword = tree.keywords[0]
        found = f"`{name}` with the argument `{keyword.arg}=`"
        raise Mistake(reader.place(keyword), found, "operands alone")
    if len(tree.args) != count:
        plural = "operand" if count == 1 else "operands"
        found = f"`{name}` of {len(tree.args)} operands"
        raise Mistake(reader.place(tree), found, f"{count} {plural}")
    return tuple(reader.node(arg) for arg in tree.args)


def _one(reader: Reader, name: str, tree: ast.Call) -> Node:
    return _operands(reader, name, tree, 1)[0]


def _two(reader: Reader, name: str, tree: ast.Call) -> tuple[Node, Node]:
    a, b = _operands(reader, name, tree, 2)
    return a, b


def _elementwise(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    return nodes.unary(name, _one(reader, name, tree), place)


def _extremum(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    return nodes.elementwise(name, _two(reader, name, tree), place)


def _last_axis(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    return nodes.last_axis(name, _one(reader, name, tree), place)


def _outer(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    return nodes.outer(*_two(reader, name, tree), place)


def _dot(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    return nodes.dot(*_two(reader, name, tree), place)


def _diag(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    return nodes.diag(_one(reader, name, tree), place)


def _ravel(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    return nodes.ravel(_one(reader, name, tree), place)


def _concat(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    return nodes.concat(_operands(reader, name, tree, max(1, len(tree.args))), place)


def _where(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    if len(tree.args) != 3 or tree.keywords:
        raise Mistake(place, "`where` without three operands", "`where(a < b, x, y)`")
    symbol, a, b = reader.comparison(tree.args[0])
    branches = (reader.node(tree.args[1]), reader.node(tree.args[2]))
    return nodes.elementwise(name, (a, b, *branches), place, symbol)


def _reduction(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    if len(tree.args) != 1 or any(keyword.arg != "axis" for keyword in tree.keywords):
        raise Mistake(place, f"this call of `{name}`", f"`{name}(x)` or `{name}(x, axis=0)`")
    operand = reader.node(tree.args[0])
    axis = reader.integer(tree.keywords[0].value) if tree.keywords else None
    rank = len(operand.shape)
    if axis is not None and not -rank <= axis < rank:
        found = f"the axis {axis} of the shape {shown(operand.shape)}"
        raise Mistake(reader.place(tree.keywords[0]), found, f"from 0 to {rank - 1}")
    return nodes.reduction(name, operand, None if axis is None else axis % rank, place)


def _filled(reader: Reader, name: str, tree: ast.Call, place: Place) -> Node:
    args = tree.args
    if len(args) == 1 and isinstance(args[0], (ast.Tuple, ast.List)):
        args = args[0].elts
    if tree.keywords or not args or (name == "eye" and len(args) != 1):
        expected = "`eye(K)`" if name == "eye" else f"`{name}(K)` or `{name}(K, V)`"
        raise Mistake(place, f"this call of `{name}`", expected)
    shape = tuple(reader.dim(arg) for arg in args)
    for arg, size in zip(args, shape, strict=True):
        if (smallest(size) or 0) < 1:
            raise Mistake(reader.place(arg), f"an axis of size `{size}`", "a size of at least 1")
    return Node(name, (), (), shape * 2 if name == "eye" else shape, place)


CALLS: dict[str, Call] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(LAST_AXIS, _last_axis),
    "maximum": _extremum,
    "minimum": _extremum,
    "where": _where,
    "outer": _outer,
    "dot": _dot,
    "diag": _diag,
    "ravel": _ravel,
    "concat": _concat,
    "sum": _reduction,
    "mean": _reduction,
    "ones": _filled,
    "zeros": _filled,
    "eye": _filled,
}
