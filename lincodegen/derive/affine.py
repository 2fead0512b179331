"""Expressions that are affine in one matrix state, with their reads kept apart.

    Matrix   Diag(scale) S(base) + sum_j a_j z_j^T       canonical: rows K, columns V
    Value    factor * (const + sum_i coef_i (Diag(scale_i) S(base_i))^T b_i)

A Value is a vector over V, or a scalar for a state without that axis. ``base`` counts the
events passed when the state had that value. Operations that leave this class raise
NotChunkable with the reason; WrongSide when the state's transpose would do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

from lincodegen.derive.nodes import add, dot, neg, number, times
from lincodegen.derive.nodes import mul as node_mul
from lincodegen.errors import NotChunkable
from lincodegen.spec.step import Node


class WrongSide(NotChunkable):
    """The update acts on the columns of the state: it is chunkable on the transpose."""


@dataclass(frozen=True, slots=True)
class StateRead:
    """coef * (Diag(scale) S(base))^T b."""

    coef: Node | None
    base: int
    scale: tuple[Node, ...]
    b: Node


@dataclass(frozen=True, slots=True)
class Value:
    """factor * (const + sum of reads); ``const`` None is zero, ``factor`` None is one."""

    factor: Node | None
    const: Node | None
    reads: tuple[StateRead, ...]

    def times(self, scalar: Node) -> Value:
        """The value scaled by a scalar."""
        return replace(self, factor=times(self.factor, scalar) if self.factor else scalar)

    def spread(self) -> Value:
        """The same value with factor one."""
        if self.factor is None:
            return self
        const = None if self.const is None else times(self.factor, self.const)
        reads = tuple(replace(r, coef=node_mul(self.factor, r.coef)) for r in self.reads)
        return Value(None, const, reads)

    def plus(self, other: Value) -> Value:
        """The sum; a common factor stays out of it."""
        x, y = self, other
        if x.factor != y.factor:
            x, y = x.spread(), y.spread()
        return Value(x.factor, add(x.const, y.const), x.reads + y.reads)

    def gated(self, gate: Node) -> Value:
        """The value times a state-free vector, elementwise."""
        if self.reads:
            raise NotChunkable(
                "an erased value is gated per value channel: the events share no triangular matrix"
            )
        return Value(self.factor, None if self.const is None else times(gate, self.const), ())


@dataclass(frozen=True, slots=True)
class Term:
    """The rank-1 matrix a z^T."""

    a: Node
    z: Value


@dataclass(frozen=True, slots=True)
class Matrix:
    """Diag(scale) S(base) + sum of terms; ``flipped``: the expression is its transpose."""

    base: int | None
    scale: tuple[Node, ...]
    terms: tuple[Term, ...]
    flipped: bool

    def times(self, scalar: Node) -> Matrix:
        """The matrix scaled by a scalar."""
        scale = (*self.scale, scalar) if self.base is not None else ()
        return replace(
            self, scale=scale, terms=tuple(Term(t.a, t.z.times(scalar)) for t in self.terms)
        )

    def rows_times(self, channel: Node) -> Matrix:
        """Diag(channel) times the canonical matrix."""
        scale = (*self.scale, channel) if self.base is not None else ()
        return replace(
            self, scale=scale, terms=tuple(Term(times(channel, t.a), t.z) for t in self.terms)
        )

    def columns_times(self, channel: Node) -> Matrix:
        """The canonical matrix times Diag(channel)."""
        if self.base is not None:
            raise WrongSide("the state is scaled per column while it is held by rows")
        return replace(self, terms=tuple(Term(t.a, t.z.gated(channel)) for t in self.terms))

    def plus(self, other: Matrix) -> Matrix:
        """The sum of two matrices of the same orientation."""
        if self.flipped != other.flipped:
            raise WrongSide("the state is added to its transpose")
        terms = self.terms + other.terms
        if self.base is None or other.base is None:
            held = other if self.base is None else self
            return Matrix(held.base, held.scale, terms, self.flipped)
        if self.base != other.base:
            raise NotChunkable("two values of the state from different lines are added")
        one = number(1)
        factors = [reduce(times, m.scale) if m.scale else one for m in (self, other)]
        total = add(factors[0], factors[1])
        return Matrix(self.base, (total,) if total else (), terms, self.flipped)

    def read(self, b: Node) -> Value:
        """(canonical matrix)^T b."""
        held = () if self.base is None else (StateRead(None, self.base, self.scale, b),)
        total = Value(None, None, held)
        for term in self.terms:
            total = total.plus(term.z.times(dot(term.a, b)))
        return total

    @property
    def negated(self) -> Matrix:
        """Minus the matrix."""
        return self.times(number(-1))


def rank1_terms(node: Node) -> list[tuple[Node, Node]]:
    """A state-free matrix as a sum of outer products a c^T; NotChunkable if it is not one."""
    match node.op:
        case "outer":
            return [(node.args[0], node.args[1])]
        case "neg":
            return [(neg(a), c) for a, c in rank1_terms(node.args[0])]
        case "add":
            return rank1_terms(node.args[0]) + rank1_terms(node.args[1])
        case "sub":
            right = [(neg(a), c) for a, c in rank1_terms(node.args[1])]
            return rank1_terms(node.args[0]) + right
        case "transpose":
            return [(c, a) for a, c in rank1_terms(node.args[0])]
        case "mul" | "div":
            return _scaled_terms(node)
        case "matmul" if len(node.args[0].shape) == 2 and len(node.args[1].shape) == 2:
            return _product_terms(node)
    raise NotChunkable(f"`{node.op}` gives a matrix that is no sum of outer products")


def _scaled_terms(node: Node) -> list[tuple[Node, Node]]:
    """Outer products under a scalar, row or column factor; x[:, None] * y[None, :]."""
    left, right = node.args
    column, row = _as_column(left), _as_row(right)
    if node.op == "mul" and (column is None or row is None):
        column, row = _as_column(right), _as_row(left)
    if node.op == "mul" and column is not None and row is not None:
        return [(column, row)]
    if node.op == "div":
        if right.shape:
            raise NotChunkable("a matrix is divided by a vector or matrix")
        inverse = Node("div", (number(1), right), (), (), node.place)
        return [(a, times(inverse, c)) for a, c in rank1_terms(left)]
    for factor, matrix in ((left, right), (right, left)):
        if len(matrix.shape) != 2 or matrix.shape != node.shape:
            continue
        if not factor.shape:
            return [(a, times(factor, c)) for a, c in rank1_terms(matrix)]
        column, row = _as_column(factor), _as_row(factor)
        if column is not None:
            return [(times(column, a), c) for a, c in rank1_terms(matrix)]
        if row is not None:
            return [(a, times(row, c)) for a, c in rank1_terms(matrix)]
    raise NotChunkable("an elementwise product gives a matrix that is no sum of outer products")


def _product_terms(node: Node) -> list[tuple[Node, Node]]:
    """A product of two matrices: Diag(x) M, M Diag(x), or the outer products over an axis."""
    left, right = node.args
    if left.op == "diag":
        return [(times(left.args[0], a), c) for a, c in rank1_terms(right)]
    if right.op == "diag":
        return [(a, times(right.args[0], c)) for a, c in rank1_terms(left)]
    inner = left.shape[1].constant
    if inner is None:
        raise NotChunkable(f"a product of two matrices over the dimension {left.shape[1]}")
    return [(_column(left, j), _row(right, j)) for j in range(inner)]


def _column(matrix: Node, j: int) -> Node:
    turned = matrix.args[0] if matrix.op == "transpose" else None
    if turned is None:
        shape = (matrix.shape[1], matrix.shape[0])
        turned = Node("transpose", (matrix,), (), shape, matrix.place)
    return _row(turned, j)


def _row(matrix: Node, j: int) -> Node:
    return Node("index", (matrix,), (j,), matrix.shape[1:], matrix.place)


def _as_column(node: Node) -> Node | None:
    """x for x[:, None]."""
    return node.args[0] if node.op == "expand" and node.attr[0] == 1 else None


def _as_row(node: Node) -> Node | None:
    """x for x[None, :], or a plain vector, which broadcasts as a row."""
    if node.op == "expand" and node.attr[0] == 0:
        return node.args[0]
    return node if len(node.shape) == 1 else None


def square_parts(node: Node) -> list[tuple[str, Node, Node]]:
    """A square matrix as scalars times the identity, diagonals and outer products."""
    one = number(1)
    match node.op:
        case "eye":
            return [("scalar", one, one)]
        case "diag":
            return [("diag", node.args[0], one)]
        case "neg":
            return [(k, neg(x), y) for k, x, y in square_parts(node.args[0])]
        case "add" | "sub":
            right = square_parts(node.args[1])
            if node.op == "sub":
                right = [(k, neg(x), y) for k, x, y in right]
            return square_parts(node.args[0]) + right
        case "transpose":
            return [
                (k, y, x) if k == "outer" else (k, x, y) for k, x, y in square_parts(node.args[0])
            ]
        case "mul":
            for s, m in (node.args, node.args[::-1]):
                if not s.shape and m.shape == node.shape:
                    return [(k, times(s, x), y) for k, x, y in square_parts(m)]
    return [("outer", a, c) for a, c in rank1_terms(node)]
