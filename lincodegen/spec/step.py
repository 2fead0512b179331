"""The parsed recurrence: a token program as single assignments over typed expression nodes.

Artefact of the stage ``spec``; every later stage and the oracle read it. Loops are
unrolled, names are resolved, shapes are checked. Imports nothing but the standard library.

    Recurrence = (name, inputs, parameters, constants, states, step, outputs)
    step       = Assign*                      in program order
    Assign     = (name, value, line)          statement i, read elsewhere as Node("ref", i)
    Node       = op(args; attr)

Leaves, with ``attr``:

    input(name)  parameter(name)  constant(name)     the float constants of the op's signature
    number(value)                                    a literal: int or float
    size(dim)                                        the value of a dimension polynomial
    state(name)                                      its value after the previous token
    ref(index)                                       the value of statement ``index``

Inner nodes. Elementwise ones broadcast as NumPy does, from the right:

    add sub mul div neg                              two operands (neg: one)
    floordiv mod                                     two scalars, in defaults alone
    pow(exponent)          x ** exponent             exponent: int or float, in attr
    exp_base(base)         base ** x                 base: positive float, in attr
    exp log log1p sigmoid softplus silu gelu tanh relu elu abs sign sqrt rsqrt
    maximum minimum
    where(comparison)      (a, b, x, y): x where a <comparison> b, else y
    matmul transpose outer dot diag                  1-D and 2-D operands, as NumPy
    index(i)               x[i] on the first axis    i: int
    slice(start, stop)     x[start:stop], first axis start, stop: Dim
    expand(axis)           inserts an axis of size 1 (x[:, None] is axis 1)
    ravel concat           row order; first axis
    sum(axis) mean(axis) cumsum(axis) softmax(axis)  axis: int >= 0, or None for all (sum, mean)
    l2norm rmsnorm layernorm                         last axis, eps 1e-6, no weights
    ones zeros eye         no operands; the node's shape says all
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lincodegen.spec.dims import Dim

Shape = tuple[Dim, ...]
Attr = tuple[Any, ...]
"""Names, numbers, dimension polynomials, None: the table above says which, an operation."""

LEAVES = frozenset({"input", "parameter", "constant", "number", "size", "state", "ref"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece of text stands: 1-based line and column of the spec file."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Node:
    """One expression. ``place`` does not take part in comparison: equal text is equal value."""

    op: str
    args: tuple[Node, ...]
    attr: Attr
    shape: Shape
    place: Place = field(default=Place(0, 0), compare=False)

    def walk(self) -> Iterator[Node]:
        """Every node below and including this one, operands first, each object once."""
        seen: set[int] = set()
        stack: list[tuple[Node, bool]] = [(self, False)]
        while stack:
            node, done = stack.pop()
            if done:
                yield node
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack.extend((arg, False) for arg in reversed(node.args))


@dataclass(frozen=True, slots=True)
class Interval:
    """A set of reals between two ends, each included or not."""

    low: float
    high: float
    includes_low: bool = True
    includes_high: bool = True


REALS = Interval(float("-inf"), float("inf"), False, False)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input, one value a token and head, or a parameter, one a head.

    ``default`` is an expression in ``constant``, ``size``, ``number`` leaves and the two
    leaves ``input("h")`` (head index) and ``input("H")`` (head count); None: required.
    """

    name: str
    shape: Shape
    domain: Interval = REALS
    norm: Interval | None = None
    default: Node | None = None
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Constant:
    """A keyword argument of the op; ``default`` has constant, size and number leaves only."""

    name: str
    default: Node


@dataclass(frozen=True, slots=True)
class State:
    """A carried value of rank 0, 1 or 2."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Assign:
    """A statement. ``state`` tells that ``name`` is a state, whose value it replaces."""

    name: str
    value: Node
    state: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A parsed spec. ``dims`` are the free dimensions, in order of first appearance."""

    name: str
    title: str
    reference: str
    doc: str
    dims: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    parameters: tuple[Tensor, ...]
    constants: tuple[Constant, ...]
    states: tuple[State, ...]
    step: tuple[Assign, ...]
    outputs: tuple[tuple[str, Node], ...]
    source: str
    file: str

    def final(self, state: str) -> Node:
        """A ref to the last assignment of a state: its value after this token."""
        last = max(i for i, a in enumerate(self.step) if a.state and a.name == state)
        value = self.step[last].value
        return Node("ref", (), (last,), value.shape, self.step[last].place)
