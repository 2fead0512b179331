"""Orients computed tiles so that no kernel transposes the result of a dot.

``tl.dot(tl.trans(x), y)`` with x computed in registers is miscompiled by some Triton versions
on some GPUs; the same product can be computed in the other orientation from the start.

    before  dV[m,v] = sum_t P[t,m] dO[t,v]         P = (Q K^T) * D        P^T is taken
    after   dV[m,v] = sum_t P'[m,t] dO[t,v]        P' = (K Q^T) * D^T     P' is another tile
"""

from __future__ import annotations

from collections.abc import Iterable

from lincodegen.program.ir import Graph, Tile, contracted, is_dot, strip


def oriented(graph: Graph, roots: Iterable[Tile], given: set[int]) -> dict[int, Tile]:
    """Every tile below the roots with its dots oriented; ``given`` ones are in memory.

    The result maps the id of an old tile to its new one.
    """
    made: dict[int, Tile] = {}

    def visit(tile: Tile) -> Tile:
        if tile.id in made:
            return made[tile.id]
        if strip(tile).id in given or not tile.args:
            made[tile.id] = tile
            return tile
        args = tuple(visit(a) for a in tile.args)
        new = (
            _renamed(graph, tile, args)
            if tile.op == "rename"
            else graph.make(tile.op, args, tile.attr, tile.axes)
        )
        if tile.op == "ein" and _matrix_product(new):
            new = _turned(graph, new, given)
        if tile.op == "contract" and "k" in tile.axes:
            new = _weight_turned(graph, new, given)
        if tile.id in graph.names:
            graph.name(new, graph.names[tile.id])
        made[tile.id] = new
        return new

    for root in roots:
        visit(root)
    return made


def _renamed(graph: Graph, tile: Tile, args: tuple[Tile, ...]) -> Tile:
    old = tile.args[0].axes
    mapping = dict(zip(old, tile.axes, strict=True))
    return graph.rename(args[0], mapping) or args[0]


def _matrix_product(tile: Tile) -> bool:
    return is_dot(tile) and len(tile.axes) == 2 and all(len(a.axes) == 2 for a in tile.args)


def _turned(graph: Graph, tile: Tile, given: set[int]) -> Tile:
    """The product with its computed operands in the orientation that a dot takes."""
    row, column = tile.axes
    (over,) = contracted(tile)
    x, y = tile.args if row in tile.args[0].axes else tile.args[::-1]
    new_x = x if x.axes == (row, over) else _transposed_if_computed(graph, x, given)
    new_y = y if y.axes == (over, column) else _transposed_if_computed(graph, y, given)
    return tile if (new_x, new_y) == (x, y) else graph.make("ein", (new_x, new_y), (), tile.axes)


def _weight_turned(graph: Graph, tile: Tile, given: set[int]) -> Tile:
    """A decayed sum with its weights as [result row, summed row]."""
    args = [
        _transposed_if_computed(graph, a, given)
        if "k" not in a.axes and len(a.axes) == 2 and a.axes[0] != tile.axes[0]
        else a
        for a in tile.args[:2]
    ]
    return graph.make("contract", (*args, *tile.args[2:]), tile.attr, tile.axes)


def _transposed_if_computed(graph: Graph, tile: Tile, given: set[int]) -> Tile:
    if not _holds_dot(tile, given):
        return tile
    turned = transposed(graph, tile, given)
    return tile if turned is None else turned


def _holds_dot(tile: Tile, given: set[int]) -> bool:
    if strip(tile).id in given or not tile.args:
        return False
    return is_dot(tile) or any(_holds_dot(a, given) for a in tile.args)


def transposed(graph: Graph, tile: Tile, given: set[int]) -> Tile | None:
    """The same matrix with its axes exchanged, computed that way; None if it cannot be."""
    if len(tile.axes) != 2:
        return tile
    axes = (tile.axes[1], tile.axes[0])
    name = graph.names.get(tile.id)
    if strip(tile).id in given:
        return None
    match tile.op:
        case "ein" | "decay":
            made = graph.make(tile.op, tile.args, tile.attr, axes)
            if tile.op == "ein" and not contracted(tile):
                args = [transposed(graph, a, given) if len(a.axes) == 2 else a for a in tile.args]
                if any(a is None for a in args):
                    return None
                made = graph.make("ein", [a for a in args if a is not None], (), axes)
            elif tile.op == "ein" and _matrix_product(made):
                made = _turned(graph, made, given)
        case "add" | "scale" | "factor":
            args = [transposed(graph, a, given) for a in tile.args]
            if any(a is None for a in args):
                return None
            made = graph.make(tile.op, [a for a in args if a is not None], tile.attr, axes)
        case "rename":
            inner = transposed(graph, tile.args[0], given)
            if inner is None:
                return None
            mapping = dict(zip(tile.args[0].axes, tile.axes, strict=True))
            return graph.rename(inner, mapping)
        case _:
            return None
    if name:
        graph.name(made, f"{name}T")
    return made
