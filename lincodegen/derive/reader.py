"""Reads what a step reads of a state: the expressions over it, with reads as leaves."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from lincodegen.derive.affine import Matrix, Value
from lincodegen.derive.events import Read
from lincodegen.derive.nodes import times
from lincodegen.derive.updates import UpdateReader, located, resolve
from lincodegen.errors import NotChunkable
from lincodegen.spec.step import Node

_STATIC = frozenset(
    {"constant", "size", "number", "mul", "div", "neg", "add", "sub", "pow", "sqrt"}
)


class GroupReader(UpdateReader):
    """Reads one state's updates and, afterwards, the expressions that read it."""

    def post(self, node: Node) -> Node:
        """The expression with every read of the state replaced by a ``read`` leaf."""
        if not self.depends(node):
            return node
        if node not in self._posted:
            self._posted[node] = self._post(node)
        return self._posted[node]

    def _post(self, node: Node) -> Node:
        if node.op == "state":
            raise NotChunkable(f"{self.state.name} itself is used elementwise, beyond its reads")
        if node.op == "ref":
            assign = self.recurrence.step[int(node.attr[0])]
            if assign.state and assign.name == self.state.name:
                raise NotChunkable(f"{self.state.name} itself is an output or used elementwise")
            with located(assign.place):
                return self.post(assign.value)
        if node.op in ("matmul", "dot") and not all(self.depends(a) for a in node.args):
            found = self._read(node)
            if found is not None:
                return found
        if node.op == "sum" and self._is_matrix(node.args[0]):
            return self._sum_read(node)
        return replace(node, args=tuple(self.post(a) for a in node.args))

    def _is_matrix(self, node: Node) -> bool:
        """Whether a dependent expression holds the state itself rather than reads of it."""
        if node.op == "state":
            return node.attr[0] == self.state.name
        if not self.depends(node) or node.op in ("matmul", "dot", "sum"):
            return False
        if node.op == "ref":
            assign = self.recurrence.step[int(node.attr[0])]
            own = assign.state and assign.name == self.state.name
            return own or self._is_matrix(assign.value)
        return any(self._is_matrix(a) for a in node.args)

    def _read(self, node: Node) -> Node | None:
        """The read leaf (and state-free rest) of a product of the state with a vector."""
        left, right = node.args
        on_left = self.depends(left)
        held_node, other = (left, right) if on_left else (right, left)
        if not self._is_matrix(held_node):
            return None
        if len(other.shape) != 1:
            raise NotChunkable("the state is read by a matrix; read it by vectors")
        held = self._matrix(held_node)
        if self.value_axis and on_left != held.flipped:
            return self._column_read(held, other, node)
        return self._released(held.read(other), node)

    def _sum_read(self, node: Node) -> Node:
        """sum(M, axis): a read by ones, of rows or of columns."""
        held, axis = self._matrix(node.args[0]), node.attr[0]
        if self.value_axis and axis is not None and held.flipped != (axis == 1):
            ones = Node("ones", (), (), (node.args[0].shape[int(axis)],), node.place)
            return self._column_read(held, ones, node)
        return self._released(self._summed(node), node)

    def _released(self, value: Value, node: Node) -> Node:
        """A Value as a state-free expression over read leaves."""
        value = value.spread()
        total = value.const
        for part in value.reads:
            factor, scale = self._static_factor(part.scale)
            q = resolve(reduce(times, scale, part.b), self.recurrence)
            leaf = self._leaf(Read(q, part.base, False, factor, node.place), node)
            leaf = times(part.coef, leaf) if part.coef is not None else leaf
            total = (
                leaf if total is None else Node("add", (total, leaf), (), node.shape, node.place)
            )
        if total is None:
            return Node("zeros", (), (), node.shape, node.place)
        return total

    def _static_factor(self, scale: tuple[Node, ...]) -> tuple[Node | None, list[Node]]:
        """The product of the factors that no token changes, and the other factors."""
        static = [f for f in scale if not f.shape and _is_static(f)]
        rest = [f for f in scale if f not in static]
        return (reduce(times, static) if static else None), rest

    def _column_read(self, held: Matrix, c: Node, node: Node) -> Node:
        """S c as a leaf, with the state-free part of what is read."""
        total: Node | None = None
        if held.base is not None:
            factor, rest = self._static_factor(held.scale)
            read = Read(resolve(c, self.recurrence), held.base, True, factor, node.place)
            total = reduce(times, rest, self._leaf(read, node))
        for term in held.terms:
            z = self._released(term.z, replace(node, shape=c.shape))
            part = times(Node("dot", (z, c), (), (), node.place), term.a)
            total = (
                part if total is None else Node("add", (total, part), (), node.shape, node.place)
            )
        if total is None:
            raise NotChunkable("a read of nothing")
        return total

    def _leaf(self, read: Read, node: Node) -> Node:
        same = [i for i, r in enumerate(self.reads) if replace(r, place=read.place) == read]
        if not same:
            self.reads.append(read)
        index = same[0] if same else len(self.reads) - 1
        return Node("read", (), (self.number, index), node.shape, node.place)


def _is_static(node: Node) -> bool:
    return all(n.op in _STATIC for n in node.walk())
