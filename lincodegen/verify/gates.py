"""Which tensors are gates, as far as the step itself shows it.

Gradients of gates are judged on a scale of their own, and the gradient of a decay factor is
not defined by a kernel where the factor is 0.
"""

from __future__ import annotations

from collections.abc import Iterator

from lincodegen.spec.step import Node, Recurrence
from lincodegen.verify.attributes import index_of, name_of
from lincodegen.verify.layout import tensors_of

_EXPONENTIALS = frozenset({"exp", "exp_base", "sigmoid"})
_SAME_FACTOR = frozenset({"expand", "index", "slice", "transpose", "diag", "mul", "ravel"})


def gates(recurrence: Recurrence) -> frozenset[str]:
    """Tensors that reach an exponential, and those whose domain says log decay."""
    found = {x.name for x in tensors_of(recurrence) if x.domain.high <= 0.0}
    for node in _nodes(recurrence):
        if node.op in _EXPONENTIALS:
            found |= _tensors(recurrence, node, None)
    return frozenset(found)


def decay_factors(recurrence: Recurrence) -> frozenset[str]:
    """Non-negative tensors that multiply a state as they are, not through an exponential.

    A kernel has w dw and divides by w, so that at w = 0 it says 0.
    """
    found: set[str] = set()
    for node in _nodes(recurrence):
        if node.op in ("mul", "matmul"):
            for factor, other in (node.args, node.args[::-1]):
                if _is_state(recurrence, other):
                    found |= _tensors(recurrence, factor, _SAME_FACTOR)
    return frozenset(
        x.name for x in tensors_of(recurrence) if x.name in found and x.domain.low >= 0.0
    )


def _nodes(recurrence: Recurrence) -> Iterator[Node]:
    for assign in recurrence.step:
        yield from assign.value.walk()


def _is_state(recurrence: Recurrence, node: Node) -> bool:
    """Whether a node is a state's value itself, kept under a local's name or not."""
    if node.op == "ref":
        assign = recurrence.step[index_of(node)]
        return assign.state or _is_state(recurrence, assign.value)
    return node.op == "state"


def _tensors(recurrence: Recurrence, node: Node, through: frozenset[str] | None) -> set[str]:
    """Tensors below a node, only through the given operations where some are given."""
    if node.op in ("input", "parameter"):
        return {name_of(node)}
    if node.op == "ref":
        assign = recurrence.step[index_of(node)]
        return set() if assign.state else _tensors(recurrence, assign.value, through)
    if through is not None and node.op not in through:
        return set()
    return set().union(*(_tensors(recurrence, arg, through) for arg in node.args))
