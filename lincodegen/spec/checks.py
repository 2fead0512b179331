"""What must hold for a spec as a whole, once its step has been read."""

from __future__ import annotations

from collections.abc import Sequence

from lincodegen.spec.document import Value
from lincodegen.spec.keys import as_scalar, as_sequence
from lincodegen.spec.names import Names
from lincodegen.spec.problems import Mistake, Problems, nearest
from lincodegen.spec.step import Assign, Node, Place

_READ_KINDS = ("input", "parameter", "local")


def read_outputs(
    value: Value | None,
    place: Place,
    assigned: Sequence[Assign],
    names: Names,
    problems: Problems,
) -> tuple[tuple[str, Node], ...]:
    """The outputs with their nodes: the last value of a local or a state."""
    wanted = [("o", place)]
    if value is not None:
        items = as_sequence(value, "`outputs`", "outputs: [o]", place).items
        wanted = [(as_scalar(item, "an output").text, item.place) for item in items]
        if not wanted:
            problems.add(Mistake(value.place, "no outputs", "at least one name"))
    last = {statement.name: i for i, statement in enumerate(assigned)}
    outputs: dict[str, Node] = {}
    for name, at in wanted:
        with problems.collecting():
            names.check(name, at)
            if name in outputs:
                raise Mistake(at, f"the output `{name}` is repeated", "each output once")
            if name not in last:
                found = f"the output `{name}` is assigned by no line of the step"
                expected = "a local or a state" if value else "`o = ...`, or `outputs: [...]`"
                raise Mistake(at, found, expected, nearest(name, last))
            node = assigned[last[name]].value
            outputs[name] = Node("ref", (), (last[name],), node.shape, at)
    return tuple(outputs.items())


def check_whole(
    assigned: Sequence[Assign],
    outputs: Sequence[tuple[str, Node]],
    names: Names,
    problems: Problems,
) -> None:
    """Record states never assigned, names never read, outputs that no input reaches.

    The last two are looked for in a spec without other mistakes: a mistaken line reads nothing.
    """
    for mistake in _unassigned(assigned, names):
        problems.add(mistake)
    if not problems:
        for mistake in (*_unread(names), *_independent(outputs, assigned)):
            problems.add(mistake)


def _unassigned(assigned: Sequence[Assign], names: Names) -> list[Mistake]:
    """States that no line assigns."""
    changed = {statement.name for statement in assigned} | names.broken
    return [
        Mistake(names.places[n], f"no line of the step assigns the state `{n}`", f"`{n} = ...`")
        for n, kind in names.kinds.items()
        if kind == "state" and n not in changed
    ]


def _unread(names: Names) -> list[Mistake]:
    """Inputs, parameters, constants and locals that nothing reads."""
    unread = [
        name
        for name, kind in names.kinds.items()
        if (kind in _READ_KINDS or name in names.floats) and name not in names.read
    ]
    return [
        Mistake(names.places[n], f"nothing reads the {names.kinds[n]} `{n}`", "no unused names")
        for n in unread
    ]


def _independent(
    outputs: Sequence[tuple[str, Node]], assigned: Sequence[Assign]
) -> list[Mistake]:
    """An output whose value is the same whatever the inputs are."""
    final = {statement.name: i for i, statement in enumerate(assigned) if statement.state}
    depends = [False] * len(assigned)

    def reaches(node: Node) -> bool:
        if node.op == "input":
            return True
        if node.op == "ref":
            return depends[int(str(node.attr[0]))]
        if node.op == "state":
            return depends[final[str(node.attr[0])]] if node.attr[0] in final else False
        return False

    changed = True
    # a state carries dependence from the last line to the first, so one pass is not enough
    while changed:
        changed = False
        for i, statement in enumerate(assigned):
            if not depends[i] and any(reaches(node) for node in statement.value.walk()):
                depends[i] = changed = True
    return [
        Mistake(node.place, f"the output `{name}` depends on no input", "a value of the inputs")
        for name, node in outputs
        if not reaches(node)
    ]
