"""Gradients of additive rules, each from the state or from its cotangent, never from both.

The chunk depends on the clock at a read through q exp(G), at a write through a exp(-G), at its
end through S_end. What a gradient of q or a is, times q or a, therefore is the gradient of the
clock there: no product of the chunk's P and dP is needed, and nothing that needs S and dS at once
but <S_end, dS_end>.

before  dg = running(row and column sums of dP * P, ...)            ds = sum_v dZ[w,v] c[w,v]
after   dg = running(q.dq at reads, -a.da at writes, <S_end, dS_end>)      ds = a.(da / s)
"""

from __future__ import annotations

from dataclasses import replace

from lincodegen.program.ir import END, At, Graph, Tile, strip
from lincodegen.program.program import OneSided, Program


def add_one_sided(program: Program) -> Program:
    """The program with `OneSided` gradients where no row of it is solved and no channel decays."""
    if not _additive(program):
        return program
    graph = program.graph
    loads = _loads(program)
    if loads is None:
        return program
    end = graph.ein(program.d_state, program.next_state, ())
    if end is None:
        return program
    graph.name(end, "dG_end")
    rows = _rows(program, loads)
    start = end
    for row in rows:
        start = graph.add(start, graph.reduce(row, ())) or start
    logs = tuple(
        (leaf, _running(graph, leaf, gradient, (*rows, end)))
        for leaf, gradient in program.gradients
        if leaf.op == "log_decay"
    )
    one = OneSided(tuple(loads.items()), logs, rows if logs else (), end, start)
    return replace(program, one_sided=one)


def _additive(program: Program) -> bool:
    """Whether writes read no state, decays are one for all channels, reads are over keys."""
    group, axes = program.form.group, [axis for axis, _ in program.form.axes]
    scalar = not any(d.channel for d in group.decays)
    return (
        program.value_axis
        and scalar
        and "m" not in axes
        and not any(read.column for read in group.reads)
    )


def _loads(program: Program) -> dict[Tile, Tile] | None:
    """The gradients of the loads, that of a row scale from the sum over keys."""
    graph = program.graph
    found = {leaf: d for leaf, d in program.gradients if leaf.op == "load"}
    for scale in [leaf for leaf in found if len(leaf.axes) == 1]:
        keys = next((x for x in found if x.axes == (*scale.axes, "k")), None)
        bare = keys and _without(graph, found[keys], scale)
        if keys is None or bare is None:
            return None
        name = graph.names.get(found[keys].id)
        found[keys] = graph.ein(scale, bare, keys.axes) or bare
        if name:
            graph.name(found[keys], name)
        found[scale] = graph.ein(keys, bare, scale.axes) or bare
        graph.name(found[scale], f"d{program.operand(scale).name}")
    return found


def _without(graph: Graph, tile: Tile, scale: Tile) -> Tile | None:
    """The tile divided by a row scale that each of its terms has as a factor; None if one lacks it.

    The rows are never summed over on the way: else it would be no factor of the sum.
    """
    if scale.axes[0] not in tile.axes:
        return None
    match tile.op:
        case "add":
            terms = [_without(graph, x, scale) for x in tile.args]
            return None if None in terms else graph.add(*terms)
        case "scale" | "factor":
            inner = _without(graph, tile.args[0], scale)
            return inner and graph.make(tile.op, (inner,), tile.attr, tile.axes)
        case "ein":
            for x, other in (tile.args, tile.args[::-1]):
                if strip(x) is scale and other.axes == tile.axes:
                    return other
            for x, other in (tile.args, tile.args[::-1]):
                inner = _without(graph, x, scale)
                if inner is not None:
                    return graph.ein(inner, other, tile.axes)
    return None


def _rows(program: Program, loads: dict[Tile, Tile]) -> tuple[Tile, ...]:
    """The gradients of the clock at every read and write."""
    graph, rows = program.graph, []
    for leaf, gradient in loads.items():
        if leaf.axes[1:] != ("k",):
            continue
        axis = leaf.axes[0]
        row = graph.ein(leaf, gradient, (axis,))
        row = graph.scale(row, -1) if axis == "w" else row
        if row is not None:
            graph.name(row, f"dG_{axis}")
            rows.append(row)
    return tuple(rows)


def _running(graph: Graph, leaf: Tile, gradient: Tile, parts: tuple[Tile, ...]) -> Tile:
    """The gradient of a log decay: the sum of those of the clocks at all later points."""
    points = []
    for part in parts:
        axis = part.axes[0] if part.axes else ""
        point = At(axis, "write" if axis == "w" else "read") if axis else END
        points.append((point, 1))
    slot = gradient.attr[1]
    made = graph.make("running", parts, (tuple(points), slot), leaf.axes)
    graph.name(made, f"d{leaf.attr[0]}")
    return made
