"""Attributes of nodes with the types that the operation says they have."""

from __future__ import annotations

from typing import NoReturn

from lincodegen.errors import InternalError
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node


def name_of(node: Node) -> str:
    """The name of an input, parameter, constant or state; the comparison of ``where``."""
    value = node.attr[0]
    return value if isinstance(value, str) else _wrong(node)


def index_of(node: Node) -> int:
    """The statement of a ref, the entry of an index, the axis of an expand."""
    value = node.attr[0]
    return value if isinstance(value, int) else _wrong(node)


def number_of(node: Node) -> int | float:
    """A literal, an exponent, a base."""
    value = node.attr[0]
    return value if isinstance(value, int | float) else _wrong(node)


def dims_of(node: Node) -> tuple[Dim, ...]:
    """The size that a size node stands for, the two ends of a slice."""
    return tuple(x if isinstance(x, Dim) else _wrong(node) for x in node.attr)


def axes_of(node: Node) -> tuple[int, ...]:
    """The tensor axes of a node's ``axis``, after batch and heads; all of them for None."""
    rank = len(node.args[0].shape)
    return tuple(range(2, 2 + rank)) if node.attr[0] is None else (2 + index_of(node),)


def _wrong(node: Node) -> NoReturn:
    raise InternalError(f"{node.op} with the attributes {node.attr}")
