"""Chains of views as one subscript: ``k[..., None, :]``, ``v[..., 0, :]``, ``x[..., :R]``."""

from __future__ import annotations

from lincodegen.emit.token_python import slice_text
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node

_VIEWS = frozenset(("expand", "squeeze", "index", "slice"))
WHOLE = ":"
NEW = "None"


def subscripted(node: Node, rank: int) -> tuple[Node, list[str]]:
    """The node below a chain of views, and the subscripts of its token axes.

    Size-1 axes are put in front until the result has ``rank`` axes.
    """
    base, items = _chain(node)
    taken = next((i for i, item in enumerate(items) if item in {WHOLE, NEW} or ":" in item), None)
    front = len(items) if taken is None else taken
    return base, items[:front] + [NEW] * (rank - len(node.shape)) + items[front:]


def _chain(node: Node) -> tuple[Node, list[str]]:
    if node.op not in _VIEWS or is_kept_reduction(node):
        return node, [WHOLE] * len(node.shape)
    base, items = _chain(node.args[0])
    axes = [i for i, item in enumerate(items) if item in {WHOLE, NEW} or ":" in item]
    axis = int(str(node.attr[0])) if node.op in {"expand", "squeeze"} else 0
    if node.op == "expand":
        position = axes[axis] if axis < len(axes) else len(items)
        return base, [*items[:position], NEW, *items[position:]]
    position = axes[axis]
    if items[position] == NEW:
        return base, items[:position] + items[position + 1 :]
    if items[position] != WHOLE:
        return node.args[0], _own_items(node, axis)
    return base, [*items[:position], *_item(node), *items[position + 1 :]]


def _own_items(node: Node, axis: int) -> list[str]:
    rank = len(node.args[0].shape)
    return [WHOLE] * axis + _item(node) + [WHOLE] * (rank - axis - 1)


def _item(node: Node) -> list[str]:
    """What a view puts in the place of the axis it acts on."""
    if node.op == "slice":
        start, stop = (bound for bound in node.attr if isinstance(bound, Dim))
        return [slice_text(start, stop, node.args[0].shape[0])]
    return ["0"] if node.op == "squeeze" else [str(node.attr[0])]


def is_kept_reduction(node: Node) -> bool:
    """Whether a node is a sum or mean over one axis with that axis put back."""
    below = node.args[0] if node.op == "expand" else node
    return below is not node and below.op in {"sum", "mean"} and below.attr == node.attr


def subscript_text(items: list[str]) -> str:
    """The subscript itself, empty where it would change nothing."""
    while items and items[0] == WHOLE:
        items = items[1:]
    return f"[..., {', '.join(items)}]" if items else ""


def scalar_below(node: Node) -> Node:
    """A Python number behind the axes that broadcasting would give it."""
    while node.op in {"expand", "broadcast", "squeeze"}:
        node = node.args[0]
    return node
