"""l2norm, rmsnorm and layernorm as products with an inverse norm.

    before   l2norm(k)
    after    k * rsqrt(sum(k * k) + 1e-6)

Taken after differentiation, so that a norm and its adjoint share the inverse.
"""

from __future__ import annotations

from lincodegen.program.token_graph import Graph
from lincodegen.program.token_rules import new_graph

NORMS = frozenset(("l2norm", "rmsnorm", "layernorm"))


def open_norms(graph: Graph, roots: list[int]) -> tuple[Graph, dict[int, int]]:
    """A graph without norms, and the value in it of each value that ``roots`` depend on."""
    opened, place = new_graph(), {}
    for value in sorted(graph.reachable(roots)):
        definition = graph[value]
        args = tuple(place[arg] for arg in definition.args)
        if definition.op in NORMS:
            place[value] = _opened(opened, definition.op, args[0])
        elif definition.args:
            place[value] = opened.make(
                definition.op, *args, attr=definition.attr, shape=definition.shape
            )
        else:
            place[value] = opened.leaf(definition.op, definition.attr, definition.shape)
    return opened, place


def _opened(graph: Graph, op: str, operand: int) -> int:
    axis = len(graph.shape(operand)) - 1
    inverse = graph.make("expand", inverse_norm(graph, op, operand), attr=(axis,))
    return graph.make("mul", centred(graph, operand) if op == "layernorm" else operand, inverse)


def inverse_norm(graph: Graph, op: str, operand: int) -> int:
    """1 / norm of the operand of l2norm, rmsnorm or layernorm, last axis dropped."""
    axis = len(graph.shape(operand)) - 1
    if op == "layernorm":
        operand = centred(graph, operand)
    square = graph.make("mul", operand, operand)
    total = graph.make("sum" if op == "l2norm" else "mean", square, attr=(axis,))
    return graph.make("rsqrt", graph.make("add", total, graph.number(1e-6)))


def centred(graph: Graph, operand: int) -> int:
    """x minus its mean over the last axis."""
    mean = kept(graph, "mean", operand, len(graph.shape(operand)) - 1)
    return graph.make("sub", operand, mean)


def kept(graph: Graph, op: str, value: int, axis: object) -> int:
    """A reduction over one axis that keeps it with size 1."""
    position = int(str(axis))
    reduced = graph.make(op, value, attr=(position,))
    return graph.make("expand", reduced, attr=(position,))
