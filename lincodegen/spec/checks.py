"""What must hold for a spec as a whole, once its step has been read."""

from __future__ import annotations

from collections.abc import Sequence

from lincodegen.spec.document import Value
from lincodegen.spec.keys import as_scalar, as_sequence
from lincodegen.spec.names import Names
from lincodegen.spec.problems import Consequence, Mistake, Problems, nearest
from lincodegen.spec.statements import Step
from lincodegen.spec.step import Assign, Node, Place

_READ = frozenset({"input", "state", "ref"})
_READ_KINDS = ("input", "parameter", "local")


def check_whole(
    step: Step, outputs: Value | None, place: Place, names: Names, problems: Problems
) -> tuple[tuple[str, Node], ...]:
    """The outputs; records what is never assigned, never read, or reached by no input.

    The last two are looked for in a spec without other mistakes: a mistaken line reads nothing.
    ``place`` is told for outputs that the file does not list.
    """
    nodes: dict[str, Node] = {}
    with problems.collecting():
        for name, at in _wanted(outputs, place):
            with problems.collecting():
                if name in nodes:
                    raise Mistake(at, f"the output `{name}` is repeated", "each output once")
                nodes[name] = _output(name, at, step, names)
    found = tuple(nodes.items())
    for mistake in _unassigned(step, names):
        problems.add(mistake)
    if not problems:
        for mistake in (*_unread(names), *_independent(found, step.assigned)):
            problems.add(mistake)
    return found


def _wanted(value: Value | None, place: Place) -> list[tuple[str, Place]]:
    """The names listed as outputs."""
    if value is None:
        return [("o", place)]
    items = as_sequence(value, "`outputs`", "outputs: [o]", place).items
    if not items:
        raise Mistake(value.place, "no outputs", "at least one name")
    return [(as_scalar(item, "an output").text, item.place) for item in items]


def _output(name: str, place: Place, step: Step, names: Names) -> Node:
    """The last value of a local or a state."""
    names.check(name, place)
    last = {statement.name: i for i, statement in enumerate(step.assigned)}
    if name in last:
        return Node("ref", (), (last[name],), step.assigned[last[name]].value.shape, place)
    if name in step.targets or not step.complete:
        raise Consequence(place)
    found = f"the output `{name}` is assigned by no line of the step"
    raise Mistake(place, found, "a local or a state; default `[o]`", nearest(name, last))


def _unassigned(step: Step, names: Names) -> list[Mistake]:
    """States that no line assigns."""
    changed = step.targets | names.broken
    return [
        Mistake(names.places[n], f"no line of the step assigns the state `{n}`", f"`{n} = ...`")
        for n, kind in names.kinds.items()
        if kind == "state" and n not in changed and step.complete
    ]


def _unread(names: Names) -> list[Mistake]:
    """Inputs, parameters, constants and locals that nothing reads."""
    unread = [
        name
        for name, kind in names.kinds.items()
        if (kind in _READ_KINDS or name in names.floats) and name not in names.read
    ]
    return [
        Mistake(
            names.places[n], f"nothing reads the {names.kinds[n]} `{n}`", "a line that reads it"
        )
        for n in unread
    ]


def _independent(outputs: Sequence[tuple[str, Node]], assigned: Sequence[Assign]) -> list[Mistake]:
    """Outputs whose values are the same whatever the inputs are."""
    reached = _reached_by_inputs(assigned)
    return [
        Mistake(node.place, f"the output `{name}` depends on no input", "a value of the inputs")
        for name, node in outputs
        if node.attr[0] not in reached
    ]


def _reached_by_inputs(assigned: Sequence[Assign]) -> frozenset[int]:
    """The statements whose values depend on an input, of this token or of an earlier one."""
    final = {statement.name: i for i, statement in enumerate(assigned) if statement.state}
    readers: dict[int, list[int]] = {}
    reached: set[int] = set()
    for i, statement in enumerate(assigned):
        leaves = [(node.op, node.attr[0]) for node in statement.value.walk() if node.op in _READ]
        if any(op == "input" for op, _ in leaves):
            reached.add(i)
        for op, read in leaves:
            source = read if op == "ref" else final.get(str(read))
            if isinstance(source, int):
                readers.setdefault(source, []).append(i)
    waiting = list(reached)
    while waiting:
        new = set(readers.get(waiting.pop(), ())) - reached
        reached |= new
        waiting.extend(new)
    return frozenset(reached)
