"""Gradients of additive rules, each from the state or from its cotangent, never from both.

The chunk depends on the clock at a read through q exp(G), at a write through a exp(-G), at its
end through S_end. What a gradient of q or a is, times q or a, therefore is the gradient of the
clock there: no product of the chunk's P and dP is needed, and nothing that needs S and dS at once
but <S_end, dS_end>.

A token that reads what it has just written does so undecayed: that pair counts at both points
and cancels. Behind strong decays nothing else is left, so it is kept out of either sum; the
gradient of a log decay whose decay is zero is zero, and nothing has to cancel.

before  dg = running(row and column sums of dP * P, ...)            ds = sum_v dZ[w,v] c[w,v]
after   dg = running(q.dq at reads, -a.da at writes, <S_end, dS_end>)      ds = a.(da / s)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lincodegen.program.ir import END, At, Graph, Tile, contracted, strip
from lincodegen.program.orient import transposed
from lincodegen.program.program import OneSided, Program


def add_one_sided(program: Program) -> Program:
    """The program with `OneSided` gradients where no row of it is solved and no channel decays."""
    if not _additive(program):
        return program
    graph = program.graph
    found = _Gradients(program, {x: d for x, d in program.gradients if x.op == "load"})
    end = graph.ein(program.d_state, program.next_state, ())
    if end is None or not found.settle():
        return program
    graph.name(end, "dG_end")
    start = end
    for row in found.rows:
        start = graph.add(start, graph.reduce(row, ())) or start
    logs = tuple(
        (leaf, _running(graph, leaf, gradient, (*found.rows, end)))
        for leaf, gradient in program.gradients
        if leaf.op == "log_decay"
    )
    rows = tuple(found.rows) if logs else ()
    one = OneSided(tuple(found.loads.items()), logs, rows, end, start)
    return replace(program, one_sided=one)


def _additive(program: Program) -> bool:
    """Whether writes read no state, decays are one for all channels, reads are over keys."""
    group, axes = program.form.group, dict(program.form.axes)
    scalar = not any(d.channel for d in group.decays)
    plain = "m" not in axes and all(len(slots) == 1 for slots in axes.values())
    return program.value_axis and scalar and plain and not any(r.column for r in group.reads)


@dataclass(slots=True)
class _Gradients:
    """Collects the gradients of the loads, and those of the clocks at their rows."""

    program: Program
    loads: dict[Tile, Tile]
    rows: list[Tile] = field(default_factory=list)

    def settle(self) -> bool:
        """Rewrites what is over keys, and row scales with it; whether that was possible."""
        scales = {x.axes[0]: x for x in self.loads if len(x.axes) == 1}
        for leaf in [x for x in self.loads if x.axes[1:] == ("k",)]:
            if not self._keys(leaf, scales.pop(leaf.axes[0], None)):
                return False
        return not scales

    def _keys(self, leaf: Tile, scale: Tile | None) -> bool:
        graph, axis = self.program.graph, leaf.axes[0]
        bare: Tile | None = self.loads[leaf]
        name = graph.names.get(self.loads[leaf].id)
        if scale is not None:
            bare = _without(graph, self.loads[leaf], scale)
        if bare is None:
            return False
        rest, own = _parted(graph, bare, self._pairs(axis))
        whole = graph.add(rest, own)
        if rest is None or whole is None:
            return False
        if scale is not None:
            self.loads[scale] = graph.ein(leaf, whole, (axis,)) or whole
            graph.name(self.loads[scale], f"d{self.program.operand(scale).name}")
            whole = graph.ein(scale, whole, leaf.axes) or whole
            rest = graph.ein(scale, rest, leaf.axes) or rest
        self.loads[leaf] = whole
        if name:
            graph.name(whole, name)
        row = graph.ein(leaf, rest, (axis,))
        row = graph.scale(row, -1) if axis == "w" else row
        if row is not None:
            self.rows.append(graph.name(row, f"dG_{axis}") or row)
        return True

    def _pairs(self, axis: str) -> dict[str, Tile]:
        """By read axis: the mask of pairs of two tokens, where those of one token undecayed are."""
        group, form = self.program.form.group, self.program.form
        found = {}
        for reads in [a for a, _ in form.axes if a != "w" and axis in (a, "w")]:
            (read,), (write,) = form.slots(reads), form.slots("w")
            clocks = [group.clocks(moment or 0)[0] for moment in (read.read, write.write)]
            if group.decays and (write.write or 0) < (read.read or 0) and clocks[0] == clocks[1]:
                to, origin = At(reads, "first"), At("w", "write")
                found[reads] = self.program.graph.decay((), to, origin, False)
        return found


def _parted(graph: Graph, tile: Tile, pairs: dict[str, Tile]) -> tuple[Tile | None, Tile | None]:
    """(what comes from other tokens and the state, what from the token itself)."""
    match tile.op:
        case "add":
            (x, own_x), (y, own_y) = (_parted(graph, a, pairs) for a in tile.args)
            return graph.add(x, y), graph.add(own_x, own_y)
        case "scale" | "factor":
            inner = _parted(graph, tile.args[0], pairs)
            rest, own = (x and graph.make(tile.op, (x,), tile.attr, tile.axes) for x in inner)
            return rest, own
        case "ein" if contracted(tile):
            return _product_parted(graph, tile, pairs)
        case "ein":
            for x, other in (tile.args, tile.args[::-1]):
                if len(x.axes) == 1:
                    rest, own = _parted(graph, other, pairs)
                    return graph.ein(x, rest, tile.axes), graph.ein(x, own, tile.axes)
    return tile, None


def _product_parted(
    graph: Graph, tile: Tile, pairs: dict[str, Tile]
) -> tuple[Tile | None, Tile | None]:
    """The parts of sum_w W[t,w] a[w,k], or of sum_t W[t,w] q[t,k]."""
    for weight, rows in (tile.args, tile.args[::-1]):
        reads = next((axis for axis in pairs if set(weight.axes) == {axis, "w"}), None)
        if reads is None:
            continue
        split = _decay_of(weight)
        if split is None:
            continue
        # a token's own pair is not decayed: its entry is that of the undecayed product
        bare, decay = split
        axis, other = tile.axes[0], rows.axes[0]
        later = graph.ein(decay, pairs[reads], decay.axes)
        rest = graph.ein(graph.ein(bare, later, weight.axes), rows, tile.axes)
        turned = bare if bare.axes[0] == axis else transposed(graph, bare, set())
        if turned is None:
            continue
        own = graph.make("diagonal", (turned,), (), (axis,))
        return rest, graph.ein(own, graph.rename(rows, {other: axis}), tile.axes)
    return tile, None


def _decay_of(weight: Tile) -> tuple[Tile, Tile] | None:
    """(X, D) of a tile X * D with D the decay between its rows."""
    if weight.op != "ein" or contracted(weight):
        return None
    for decay, other in (weight.args, weight.args[::-1]):
        if decay.op == "decay" and set(decay.axes) == set(weight.axes) == set(other.axes):
            return other, decay
    return None


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


def _running(graph: Graph, leaf: Tile, gradient: Tile, parts: tuple[Tile, ...]) -> Tile:
    """The gradient of a log decay: the sum of those of the clocks at all later points."""
    points = []
    for part in parts:
        axis = part.axes[0] if part.axes else ""
        point = At(axis, "write" if axis == "w" else "read") if axis else END
        points.append((point, 1))
    slot = gradient.attr[1]
    total = graph.make("running", parts, (tuple(points), slot), leaf.axes)
    made = graph.make("alive", (total, leaf), (), leaf.axes)
    graph.name(made, f"d{leaf.attr[0]}")
    return made
