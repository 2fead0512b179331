"""Token programs: what a step does outside the chunked matrix part, and its adjoint.

From the parsed step to the prologue, the epilogue or the whole step of one token as single
assignments, and from such a program to its vector-Jacobian product. Printers turn either
into PyTorch or Triton.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from lincodegen.errors import InternalError
from lincodegen.program.token_graph import Graph, node_of
from lincodegen.program.token_names import Names, name_values
from lincodegen.program.token_norms import open_norms
from lincodegen.program.token_reader import StepReader
from lincodegen.program.token_rules import new_graph
from lincodegen.program.token_text import node_text
from lincodegen.program.token_vjp import reverse_sweep
from lincodegen.spec.step import Node, Recurrence, Shape


class Kind(Enum):
    """Where an argument comes from, which settles its leading axes."""

    TOKEN = "input"
    """``[B, T, H, *shape]``: an input, a cut value or a cotangent."""
    PARAMETER = "parameter"
    """``[H, *shape]``."""
    CONSTANT = "constant"
    """A Python float."""
    STATE = "state"
    """``[B, H, *shape]``, or a token's own copy of it."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A value that a program is given, read as the leaf ``kind.value`` of that name."""

    name: str
    shape: Shape
    kind: Kind

    @property
    def leaf(self) -> Node:
        """The leaf that reads the argument."""
        return Node(self.kind.value, (), (self.name,), self.shape)


@dataclass(frozen=True, slots=True)
class Statement:
    """``name = value``; ``value`` reads earlier statements as leaves ``value(name)``."""

    name: str
    value: Node


@dataclass(frozen=True, slots=True)
class Output:
    """A result: ``value`` is a leaf, an argument or a statement."""

    name: str
    value: Node


@dataclass(frozen=True, slots=True)
class TokenProgram:
    """Single assignments over arguments. Every argument and statement is used.

    ``sizes`` are the dimensions of the recurrence: names that no statement may take.
    """

    inputs: tuple[Argument, ...]
    statements: tuple[Statement, ...]
    outputs: tuple[Output, ...]
    sizes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{s.name} = {node_text(s.value)}" for s in self.statements]
        arguments = ", ".join(a.name for a in self.inputs)
        results = ", ".join(f"{o.name} = {node_text(o.value)}" for o in self.outputs)
        return "\n".join([f"given {arguments}", *lines, f"return {results}"])


def token_program(
    recurrence: Recurrence,
    outputs: Sequence[tuple[str, Node]],
    cut: Mapping[Node, str] | None = None,
) -> TokenProgram:
    """The part of a step that computes ``outputs``.

    Args:
        recurrence: the step; ``ref`` leaves in ``outputs`` and ``cut`` are its statements.
        outputs: expressions of the step, each with the name of the result.
        cut: expressions that are given rather than computed, with their names as arguments
            (a read of the state, in an epilogue).
    """
    reader = StepReader(recurrence, cut or {})
    results = {name: reader.read(node) for name, node in outputs}
    cuts = [Argument(name, node.shape, Kind.TOKEN) for node, name in (cut or {}).items()]
    order = _arguments(recurrence, cuts)
    return _assemble(reader.graph, order, results, reader.hints, recurrence.dims)


def step_program(recurrence: Recurrence) -> TokenProgram:
    """The whole step of one token: its outputs, then each state's next value as ``S_next``."""
    states = [(f"{s.name}_next", recurrence.final(s.name)) for s in recurrence.states]
    return token_program(recurrence, [*recurrence.outputs, *states])


def whole_step(recurrence: Recurrence) -> TokenProgram:
    """:func:`step_program` with all tensors, states and constants as arguments, read or not."""
    return replace(step_program(recurrence), inputs=tuple(_arguments(recurrence, ())))


def _arguments(recurrence: Recurrence, cuts: Sequence[Argument]) -> list[Argument]:
    """All that a step is given, ``cuts`` behind the inputs."""
    return [
        *(Argument(t.name, t.shape, Kind.TOKEN) for t in recurrence.inputs),
        *cuts,
        *(Argument(t.name, t.shape, Kind.PARAMETER) for t in recurrence.parameters),
        *(Argument(s.name, s.shape, Kind.STATE) for s in recurrence.states),
        *(Argument(c.name, (), Kind.CONSTANT) for c in recurrence.constants),
    ]


def token_adjoint(program: TokenProgram, wrt: Sequence[str]) -> TokenProgram:
    """The vector-Jacobian product of a program.

    The arguments are those of ``program`` that gradients need, then ``do`` for each output
    ``o``; the outputs are ``dx`` for each x of ``wrt``, in that order, in the shape of x.
    An output that is not differentiable gives its arguments nothing; an x that no output
    depends on has gradient ``zeros``.
    """
    graph, values = _graph_of(program)
    arguments = {a.name: a for a in program.inputs}
    if missing := [name for name in wrt if name not in arguments]:
        raise InternalError(f"no argument {missing[0]!r} to differentiate by")
    given = cotangent_names(program)
    names = Names({*arguments, *program.sizes, *given.values()})
    seeds: dict[int, int] = {}
    cotangents = []
    for output in program.outputs:
        cotangent = Argument(given[output.name], output.value.shape, Kind.TOKEN)
        cotangents.append(cotangent)
        value = _value_of(graph, values, output.value)
        leaf = graph.leaf(cotangent.kind.value, (cotangent.name,), cotangent.shape)
        seeds[value] = graph.make("add", seeds[value], leaf) if value in seeds else leaf
    leaves = {name: _value_of(graph, values, arguments[name].leaf) for name in wrt}
    closed = reverse_sweep(graph, seeds, leaves.values())
    results = {
        names.free(f"d{name}"): closed[leaf] if leaf in closed else graph.make("zeros_like", leaf)
        for name, leaf in leaves.items()
    }
    hints = {value: name for name, value in values.items()}
    for name, value in values.items():
        if value in closed:
            hints.setdefault(closed[value], f"d{name}")
    return _assemble(graph, [*program.inputs, *cotangents], results, hints, program.sizes)


def cotangent_names(program: TokenProgram) -> dict[str, str]:
    """What the adjoint calls the cotangent of each output: ``do`` unless that is taken."""
    names = Names({*(a.name for a in program.inputs), *program.sizes})
    return {output.name: names.free(f"d{output.name}") for output in program.outputs}


def opened_norms(program: TokenProgram) -> TokenProgram:
    """The same program with l2norm, rmsnorm and layernorm written out, as printers need it."""
    graph, values = _graph_of(program)
    results = {o.name: _value_of(graph, values, o.value) for o in program.outputs}
    opened, place = open_norms(graph, [*results.values()])
    results = {name: place[value] for name, value in results.items()}
    hints = {place[value]: name for name, value in values.items()}
    found = _assemble(opened, program.inputs, results, hints, program.sizes)
    # an argument may be there for its dtype and device alone
    return replace(found, inputs=program.inputs)


def _graph_of(program: TokenProgram) -> tuple[Graph, dict[str, int]]:
    """The statements as values of a graph, by name."""
    graph = new_graph()
    values: dict[str, int] = {}
    for statement in program.statements:
        values[statement.name] = _value_of(graph, values, statement.value)
    return graph, values


def _value_of(graph: Graph, values: Mapping[str, int], node: Node) -> int:
    if node.op == "value":
        return values[str(node.attr[0])]
    if not node.args:
        return graph.leaf(node.op, node.attr, node.shape)
    args = [_value_of(graph, values, arg) for arg in node.args]
    return graph.make(node.op, *args, attr=node.attr, shape=node.shape)


def _assemble(
    graph: Graph,
    arguments: Sequence[Argument],
    results: Mapping[str, int],
    hints: Mapping[int, str],
    sizes: Sequence[str],
) -> TokenProgram:
    """The program of some values: dead ones dropped, shared ones named."""
    reached = graph.reachable(list(results.values()))
    used = {(graph[value].op, graph[value].attr) for value in reached}
    inputs = tuple(a for a in arguments if (a.kind.value, (a.name,)) in used)
    names = name_values(graph, results, hints, [*(a.name for a in arguments), *sizes])
    leaves: dict[int, Node] = {}
    statements = []
    for value, name in names.items():
        statements.append(Statement(name, node_of(graph, value, leaves)))
        leaves[value] = Node("value", (), (name,), graph.shape(value))
    outputs = tuple(Output(name, node_of(graph, v, leaves)) for name, v in results.items())
    return TokenProgram(inputs, tuple(statements), outputs, tuple(sizes))
