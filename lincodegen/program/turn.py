"""A carry with its axes exchanged: for products that sum over its second axis.

``dO S_0^T`` takes the carry transposed, and no kernel may transpose what it computed. So the
scan carries the transpose, [v, k]; the row scales of its update move from the rows over values
to those over keys, so that what is transposed there is a raw operand.

before  S_end[k,v] = e S_0[k,v] + sum_w a[w,k] (s[w] c[w,v])      dQ = sum_v dO[t,v] S_0[k,v]
after   S_end[v,k] = e S_0[v,k] + sum_w c[w,v] (s[w] a[w,k])      dQ = sum_v dO[t,v] S_0[v,k]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lincodegen.program.ir import Graph, Tile, below, strip
from lincodegen.program.passes import row_scale, same

_SCALARS = ("scale", "factor")


@dataclass(frozen=True, slots=True)
class Turned:
    """Tiles on a turned carry: the carry itself, its update, and the roots that were asked for."""

    leaf: Tile
    update: Tile
    roots: tuple[Tile, ...]


def turned(graph: Graph, leaf: Tile, update: Tile, roots: Sequence[Tile]) -> Turned | None:
    """The same values from the carry as [v, k]; None for an update of another form."""
    turn = _Turn(graph, leaf, graph.make("carry", (), leaf.attr, leaf.axes[::-1]))
    if leaf.id in graph.names:
        graph.name(turn.carry, graph.names[leaf.id])
    made = turn.update(update)
    if made is None:
        return None
    return Turned(turn.carry, made, tuple(turn.replaced(root) for root in roots))


@dataclass(slots=True)
class _Turn:
    graph: Graph
    leaf: Tile
    carry: Tile
    memo: dict[int, Tile] = field(default_factory=dict)

    def replaced(self, root: Tile) -> Tile:
        """A tile with the turned carry in place of the carry."""
        for tile in below([root]):
            if tile is self.leaf:
                self.memo[tile.id] = self.carry
            elif tile.id not in self.memo:
                made = same(self.graph, tile, tuple(self.memo[a.id] for a in tile.args))
                if tile.id in self.graph.names:
                    self.graph.name(made, self.graph.names[tile.id])
                self.memo[tile.id] = made
        return self.memo[root.id]

    def update(self, tile: Tile) -> Tile | None:
        """A tile over (k, v) as one over (v, k)."""
        if tile is self.leaf:
            return self.carry
        axes = tile.axes[::-1]
        match tile.op:
            case "add" | "scale" | "factor":
                args = [self.update(x) for x in tile.args]
                if None in args:
                    return None
                return self.graph.make(tile.op, [x for x in args if x], tile.attr, axes)
            case "ein":
                for x, other in (tile.args, tile.args[::-1]):
                    if not x.axes:
                        inner = self.update(other)
                        return inner and self.graph.ein(x, inner, axes)
                return self._product(tile)
        return None

    def _product(self, tile: Tile) -> Tile | None:
        """sum_r a[r,k] (s[r] c[r,v]) as sum_r c[r,v] (s[r] a[r,k])."""
        by_axis = {x.axes[-1]: x for x in tile.args if len(x.axes) == 2}
        if by_axis.keys() != {"k", "v"}:
            return None
        graph, keys, values = self.graph, by_axis["k"], by_axis["v"]
        scales: Tile | None = None
        numbers: list[Tile] = []
        while values.op not in ("load", "cotangent"):
            inner = strip(values)
            found = row_scale(graph, values)
            if found is not None:
                scale, values = found
                scales = scale if scales is None else graph.ein(scales, scale, scale.axes)
            elif inner.op in _SCALARS and inner is values:
                numbers.append(inner)
                values = inner.args[0]
            else:
                return None
        target = keys if scales is None else scales
        for number in numbers:
            target = graph.make(number.op, (target,), number.attr, target.axes)
        keys = target if scales is None else graph.ein(target, keys, keys.axes)
        return graph.ein(values, keys, ("v", "k"))
