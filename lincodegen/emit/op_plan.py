"""What an op does around the chunk forms of its groups: operands, outputs, defaults.

An operand that is an input as it stands is passed as it stands; the others are computed per
token by one function a group, whose adjoint takes their gradients back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lincodegen.derive.events import Group, Timeline
from lincodegen.emit.token_torch_expression import TorchExpressions
from lincodegen.program.program import Operand, Program, Scalar
from lincodegen.program.token import Argument, Kind, TokenProgram, token_adjoint, token_program
from lincodegen.program.token_names import Names
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node, Recurrence, Shape

Cut = Mapping[Node, str]


@dataclass(frozen=True, slots=True)
class TokenFunction:
    """A printed function of one token and its adjoint.

    ``wrt`` are the tensors that the adjoint gives gradients of; ``adjoint`` is None where
    there are none. ``whole`` tells per output whether it has all leading axes.
    """

    name: str
    program: TokenProgram
    adjoint: TokenProgram | None
    wrt: tuple[str, ...]
    whole: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class OperandPlan:
    """An operand of a group: ``source`` is the tensor or read that it is, None if computed.

    ``differentiable`` tells whether the chunk form gives a gradient of it; ``rank`` counts
    its axes behind the heads; a ``factor`` is one of matrix products.
    """

    name: str
    source: str | None
    rank: int
    differentiable: bool
    factor: bool


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """How the op calls the chunk form of one group; ``suffix`` tells its functions apart."""

    group: Group
    suffix: str
    operands: tuple[OperandPlan, ...]
    scalars: tuple[Scalar, ...]
    computed: TokenFunction | None
    reads: tuple[str, ...]

    @property
    def state(self) -> str:
        """The name of the group's state."""
        return self.group.state.name


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """An output: the read or tensor that it is, or the function that computes it."""

    name: str
    source: str | None
    function: TokenFunction | None


@dataclass(frozen=True, slots=True)
class OpPlan:
    """All groups and outputs of an op whose every group has a chunk form."""

    recurrence: Recurrence
    groups: tuple[GroupPlan, ...]
    outputs: tuple[OutputPlan, ...]

    @property
    def functions(self) -> tuple[TokenFunction, ...]:
        """Every function of one token, in the order in which the forward calls them."""
        computed = [g.computed for g in self.groups] + [o.function for o in self.outputs]
        return tuple(f for f in computed if f is not None)

    def dependencies(self) -> dict[str, tuple[str, ...]]:
        """Per state, the tensors that its group's operands depend on."""
        below: dict[str, set[str]] = {}
        order = [t.name for t in (*self.recurrence.inputs, *self.recurrence.parameters)]
        found = {}
        for plan in self.groups:
            direct = {o.source for o in plan.operands if o.source is not None}
            direct |= set(plan.computed.wrt) if plan.computed else set()
            reached = {n for name in direct for n in below.get(name, {name})}
            below |= dict.fromkeys(plan.reads, reached)
            found[plan.state] = tuple(n for n in order if n in reached)
        return found


def plan_op(timeline: Timeline, programs: Sequence[Program]) -> OpPlan:
    """Settles what is passed as it stands and what is computed per token."""
    recurrence = timeline.recurrence
    cut = _read_names(timeline, programs)
    groups = []
    for index, program in enumerate(programs):
        suffix = f"_{program.form.group.state.name}" if len(programs) > 1 else ""
        reads = [name for node, name in cut.items() if node.attr[0] == index]
        groups.append(_group_plan(recurrence, program, suffix, cut, tuple(reads)))
    several = len(timeline.outputs) > 1
    outputs = []
    for name, node in timeline.outputs:
        program = token_program(recurrence, [(name, node)], cut)
        source = raw_source(program)
        label = f"output_{name}" if several else "output"
        function = None if source else token_function(recurrence, label, program)
        outputs.append(OutputPlan(name, source, function))
    return OpPlan(recurrence, tuple(groups), tuple(outputs))


def _read_names(timeline: Timeline, programs: Sequence[Program]) -> dict[Node, str]:
    """A name for every read: that of the output that it is, else the state's."""
    recurrence = timeline.recurrence
    taken = {t.name for t in (*recurrence.inputs, *recurrence.parameters)}
    taken |= {c.name for c in recurrence.constants} | {s.name for s in recurrence.states}
    taken |= set(recurrence.dims)
    outputs = {node: name for name, node in timeline.outputs if name not in taken}
    taken |= set(outputs.values())
    roots = [node for _, node in timeline.outputs]
    roots += [n for p in programs for _, o in p.operands for n in o.nodes]
    roots += [n for p in programs for _, o, _ in p.logs for n in o.nodes]
    leaves = {n for root in roots for n in root.walk() if n.op == "read"}
    names: dict[Node, str] = {}
    for leaf in sorted(leaves, key=lambda n: n.attr):
        number, index = (int(str(a)) for a in leaf.attr)
        group = timeline.groups[number]
        wish = f"read_{group.state.name}" + (str(index) if len(group.reads) > 1 else "")
        while wish in taken:
            wish += "_"
        names[leaf] = outputs.get(leaf, wish)
        taken.add(names[leaf])
    return names


def _canonical(group: Group) -> tuple[Shape, Shape]:
    """The axes K and V of a group's state as shapes of vectors."""
    shape = group.state.shape[::-1] if group.flipped else group.state.shape
    return shape[:1], shape[1:]


def _group_plan(
    recurrence: Recurrence, program: Program, suffix: str, cut: Cut, reads: tuple[str, ...]
) -> GroupPlan:
    group = program.form.group
    gradients = {leaf.id for leaf, _ in program.gradients}
    leaves = [(tile, operand) for tile, operand in program.operands]
    leaves += [(tile, operand) for tile, operand, _ in program.logs]
    plans: list[OperandPlan] = []
    computed: list[tuple[str, Node]] = []
    names = Names(())
    for tile, operand in leaves:
        node = operand_node(operand, group)
        source = raw_source(token_program(recurrence, [(operand.name, node)], cut))
        name = operand.name
        if source is None:
            name = names.free(_local_name(recurrence, node) or operand.name)
            computed.append((name, node))
        factor = tile.op == "load" and len(operand.axes) == 2
        plans.append(OperandPlan(name, source, len(node.shape), tile.id in gradients, factor))
    function = None
    if computed:
        joint = token_program(recurrence, computed, cut)
        function = token_function(recurrence, f"operands{suffix}", joint)
    return GroupPlan(group, suffix, tuple(plans), program.scalars, function, reads)


def _local_name(recurrence: Recurrence, node: Node) -> str | None:
    """The name that the step gives to an expression, or to the first slot of a stack."""
    first = node.args[0] if node.op in ("stack", "broadcast") else node
    return recurrence.step[int(str(first.attr[0]))].name if first.op == "ref" else None


def operand_node(operand: Operand, group: Group) -> Node:
    """One expression of shape (slots,) *dims for the rows of a token."""
    rows, columns = _canonical(group)
    shape = {"k": rows, "v": columns}.get(operand.axes[-1], ())
    nodes = [n if n.shape == shape else Node("broadcast", (n,), (), shape) for n in operand.nodes]
    if len(nodes) == 1:
        return nodes[0]
    return Node("stack", tuple(nodes), (), (Dim.of(len(nodes)), *shape))


def raw_source(program: TokenProgram) -> str | None:
    """The tensor or read that the only output of a program is, None where it is computed."""
    value = program.outputs[0].value
    named = {s.name: s.value for s in program.statements}
    while value.op == "value":
        value = named[str(value.attr[0])]
    if value.op in ("input", "parameter"):
        return str(value.attr[0])
    if value.op != "stack":
        return None
    bases = {arg.args[0] for arg in value.args if arg.op == "index"}
    places = [arg.attr[0] for arg in value.args if arg.op == "index"]
    if len(bases) != 1 or places != list(range(len(value.args))):
        return None
    base = bases.pop()
    whole = base.op in ("input", "parameter") and base.shape == value.shape
    return str(base.attr[0]) if whole else None


def token_function(recurrence: Recurrence, name: str, program: TokenProgram) -> TokenFunction:
    """A program with its adjoint by every tensor that it takes."""
    tensors = tuple(a.name for a in program.inputs if a.kind is not Kind.CONSTANT)
    adjoint = token_adjoint(program, tensors) if tensors else None
    if not tensors:
        # dtype and device come from a tensor
        first = recurrence.inputs[0]
        given = Argument(first.name, first.shape, Kind.TOKEN)
        sizes, statements = program.sizes, program.statements
        program = TokenProgram((given, *program.inputs), statements, program.outputs, sizes)
    text = TorchExpressions(program)
    whole = tuple(
        text.is_tensor(o.value) and text.has_leading_axes(o.value) for o in program.outputs
    )
    return TokenFunction(name, program, adjoint, tensors, whole)
