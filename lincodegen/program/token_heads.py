"""Which tensors settle the head counts of states and outputs."""

from __future__ import annotations

from collections.abc import Mapping

from lincodegen.spec.step import Node, Recurrence

Sources = dict[str, tuple[str, ...]]


def head_sources(recurrence: Recurrence) -> tuple[Sources, Sources]:
    """The inputs and parameters that each state, and each output, depends on, in spec order.

    A state or an output has as many heads as the largest of them.
    """
    states: dict[str, frozenset[str]] = {s.name: frozenset() for s in recurrence.states}
    while True:
        statements: list[frozenset[str]] = []
        for assign in recurrence.step:
            statements.append(_reads(assign.value, statements, states))
        grown = dict(states)
        for assign, reads in zip(recurrence.step, statements, strict=True):
            if assign.state:
                grown[assign.name] = grown[assign.name] | reads
        if grown == states:
            break
        states = grown
    outputs = {name: _reads(node, statements, states) for name, node in recurrence.outputs}
    order = [t.name for t in (*recurrence.inputs, *recurrence.parameters)]

    def ordered(found: Mapping[str, frozenset[str]]) -> Sources:
        return {name: tuple(n for n in order if n in reads) for name, reads in found.items()}

    return ordered(states), ordered(outputs)


def _reads(
    root: Node, statements: list[frozenset[str]], states: Mapping[str, frozenset[str]]
) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for node in root.walk():
        match node.op, node.attr:
            case (("input" | "parameter"), (str(name),)):
                found |= {name}
            case "state", (str(name),):
                found |= states[name]
            case "ref", (int(index),):
                found |= statements[index]
            case _:
                pass
    return found
