"""Token-level values, hash-consed: the workbench on which token programs are built.

A value is an integer, the index of its definition; operands come before their users, so
that the order of indices is an order of evaluation. Equal definitions are one value.

The operations are those of :mod:`lincodegen.spec.step` and these, which adjoints need:

    logsigmoid             log(sigmoid(x)) = -softplus(-x)
    safe_log               the log of a factor >= 0, with derivative 0 at 0
    erf                    the error function, for the derivative of gelu
    finite                 x where x is finite, else 0
    broadcast              to the value's own shape, from the right
    squeeze(axis)          removes an axis of size 1
    diagonal               the diagonal of a square matrix
    unravel                a vector read in row order, in the value's own shape
    stack                  operands of one shape as the rows of a new first axis
    unindex(i)             zeros of the value's shape with the operand at index i
    unslice(start, stop)   zeros of the value's shape with the operand from start to stop
    rcumsum(axis)          sum of this and all later entries
    zeros_like             zeros of the operand's shape, leading axes included
    part(name)             leaf: some rows of an argument, which a kernel loads by themselves
    value(name)            leaf: an earlier statement of the program
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lincodegen.program.token_shapes import infer_shape
from lincodegen.spec.step import Attr, Node, Shape


@dataclass(frozen=True, slots=True)
class Definition:
    """One operation over earlier values."""

    op: str
    args: tuple[int, ...]
    attr: Attr
    shape: Shape


class Graph:
    """Definitions in order of evaluation; :meth:`make` returns the simplest equal value.

    Args:
        rules: what simplifies a new value, by its operation.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.rules = rules
        self.definitions: list[Definition] = []
        self._index: dict[Definition, int] = {}

    def __getitem__(self, value: int) -> Definition:
        return self.definitions[value]

    def shape(self, value: int) -> Shape:
        """The token shape of a value."""
        return self.definitions[value].shape

    def number(self, value: float) -> int:
        """A literal."""
        return self._intern(Definition("number", (), (value,), ()))

    def leaf(self, op: str, attr: Attr, shape: Shape) -> int:
        """A value from outside."""
        return self._intern(Definition(op, (), attr, shape))

    def make(self, op: str, *args: int, attr: Attr = (), shape: Shape | None = None) -> int:
        """The value of ``op`` on earlier values, its shape inferred where none is given."""
        if shape is None:
            shape = infer_shape(op, [self.shape(a) for a in args], attr)
        rule = self.rules.get(op)
        simpler = rule(self, args, attr, shape) if rule else None
        if simpler is not None:
            return simpler
        return self._intern(Definition(op, args, attr, shape))

    def reachable(self, roots: list[int]) -> set[int]:
        """The values that ``roots`` depend on, themselves included."""
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            value = stack.pop()
            if value not in seen:
                seen.add(value)
                stack.extend(self[value].args)
        return seen

    def _intern(self, definition: Definition) -> int:
        # 1, 1.0 and True hash alike: the type of a literal is part of its identity
        found = self._index.get(definition)
        if found is not None and repr(self[found].attr) == repr(definition.attr):
            return found
        self.definitions.append(definition)
        self._index[definition] = len(self.definitions) - 1
        return len(self.definitions) - 1


Rule: TypeAlias = Callable[[Graph, tuple[int, ...], Attr, Shape], int | None]
"""From operands, attributes and shape of a value to an equal simpler one, or None."""


def node_of(graph: Graph, value: int, leaves: dict[int, Node]) -> Node:
    """The expression of a value, down to ``leaves`` and the leaves of the graph."""
    if value in leaves:
        return leaves[value]
    definition = graph[value]
    args = tuple(node_of(graph, arg, leaves) for arg in definition.args)
    return Node(definition.op, args, definition.attr, definition.shape)
