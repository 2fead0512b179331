"""The reverse sweep over a tile program: the backward of any spec, by one rule an op."""

from __future__ import annotations

from collections.abc import Iterator

from lincodegen.errors import InternalError
from lincodegen.program.ir import START, Graph, Tile, below

_LEAVES = ("load", "log_decay", "carry", "cotangent")


def gradients(graph: Graph, seeds: dict[Tile, Tile]) -> dict[Tile, Tile]:
    """The gradient of every leaf of the tiles in ``seeds``, given theirs.

    The gradient of a tile named X is named dX. A span's adjoint is dD * D, the value of the
    decay itself: an exact zero stays zero.
    """
    bar: dict[int, Tile | None] = {tile.id: seed for tile, seed in seeds.items()}
    found: dict[Tile, Tile] = {}
    for tile in reversed(below(seeds)):
        cotangent = bar.get(tile.id)
        if cotangent is None:
            continue
        if tile.id in graph.names:
            graph.name(cotangent, "d" + graph.names[tile.id])
        if tile.op in _LEAVES:
            found[tile] = cotangent
            continue
        for arg, part in _vjp(graph, tile, cotangent):
            if part is not None:
                bar[arg.id] = graph.add(bar.get(arg.id), part)
    return found


def _vjp(graph: Graph, tile: Tile, d: Tile) -> Iterator[tuple[Tile, Tile | None]]:
    """The operands of a tile with their parts of its cotangent d."""
    match tile.op:
        case "ein":
            x, y = tile.args
            yield x, _ein_adjoint(graph, d, y, x)
            yield y, _ein_adjoint(graph, d, x, y)
        case "reduce":
            yield tile.args[0], graph.broadcast(d, tile.args[0].axes)
        case "broadcast":
            yield tile.args[0], graph.reduce(d, tile.args[0].axes)
        case "add":
            yield tile.args[0], d
            yield tile.args[1], d
        case "scale":
            yield tile.args[0], graph.scale(d, float(tile.attr[0]))
        case "factor":
            yield tile.args[0], graph.factor(d, str(tile.attr[0]))
        case "rename":
            back = dict(zip(tile.axes, tile.args[0].axes, strict=True))
            yield tile.args[0], graph.rename(d, back)
        case "decay":
            yield from _decay_vjp(graph, tile, d)
        case "contract":
            yield from _contract_vjp(graph, tile, d)
        case "solve":
            yield from _solve_vjp(graph, tile, d)
        case _:
            raise InternalError(f"no adjoint of {tile!r}")


def _ein_adjoint(graph: Graph, d: Tile, other: Tile, operand: Tile) -> Tile | None:
    """d * other summed to the operand's axes, repeated over axes that only it had."""
    have = set(d.axes) | set(other.axes)
    known = tuple(axis for axis in operand.axes if axis in have)
    return graph.broadcast(graph.ein(d, other, known), operand.axes)


def _decay_vjp(graph: Graph, tile: Tile, d: Tile) -> Iterator[tuple[Tile, Tile | None]]:
    to, origin, channel = tile.attr
    weight = graph.ein(d, tile, tile.axes)
    for j, log in enumerate(tile.args):
        yield log, graph.cover(weight, to, origin, (j, len(tile.args)), bool(channel))


def _contract_vjp(graph: Graph, tile: Tile, d: Tile) -> Iterator[tuple[Tile, Tile | None]]:
    """The decayed contraction is closed under its adjoint.

    For r = contract(x, y): dx = contract(dr, y), dy = contract(dr, x). The log decays get
    +x dx at the read point and -y dy at the write point of whichever operands are rows over
    k; where r itself is such a row, its own r dr takes the place of the missing one.
    """
    x, y, *logs = tile.args
    span = to, origin = tile.attr
    dx = graph.contract(d, y, tuple(logs), span, x.axes)
    dy = graph.contract(d, x, tuple(logs), span, y.axes)
    yield x, dx
    yield y, dy
    row: Tile | None = None
    column: Tile | None = None
    for value, gradient in ((x, dx), (y, dy), (tile, d)):
        if value.axes == (to.axis, "k"):
            row = graph.ein(value, gradient, value.axes)
        elif value.axes == (origin.axis, "k"):
            column = graph.scale(graph.ein(value, gradient, value.axes), -1)
    for j, log in enumerate(logs):
        slot = (j, len(logs))
        at_row = graph.cover(row, to, START, slot, True)
        at_column = graph.cover(column, origin, START, slot, True)
        yield log, graph.add(at_row, at_column)


def _solve_vjp(graph: Graph, tile: Tile, d: Tile) -> Iterator[tuple[Tile, Tile | None]]:
    """Z = (I - N)^{-1} R: dR = (I - N)^{-T} dZ, dN = dR Z^T."""
    matrix, right = tile.args
    d_right = graph.name(graph.solve(matrix, d, transposed=True), "dR")
    yield right, d_right
    rows, columns = matrix.axes
    yield matrix, graph.ein(d_right, graph.rename(tile, {rows: columns}), matrix.axes)
