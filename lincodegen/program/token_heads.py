"""Which tensors settle the head counts of states and outputs."""

from __future__ import annotations

from collections.abc import Mapping

from lincodegen.program.token import TokenProgram
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


def meeting(program: TokenProgram) -> tuple[frozenset[str], ...]:
    """The arguments of a program in groups: those that a result depends on are in one."""
    known: dict[str, frozenset[str]] = {a.name: frozenset({a.name}) for a in program.inputs}
    for statement in program.statements:
        known[statement.name] = _named(statement.value, known)
    groups: list[frozenset[str]] = []
    for output in program.outputs:
        found = _named(output.value, known)
        apart = [group for group in groups if not group & found]
        groups = [*apart, found.union(*(group for group in groups if group & found))]
    return tuple(groups)


def _named(root: Node, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    names = (str(node.attr[0]) for node in root.walk() if not node.args and node.attr)
    return frozenset[str]().union(*(known[name] for name in names if name in known))


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
