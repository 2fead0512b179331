"""Rewrites of a program, each a pure function Program -> Program, in the order of PASSES."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lincodegen.program.ir import At, Graph, Tile, below, contracted, is_dot, strip
from lincodegen.program.one_sided import add_one_sided
from lincodegen.program.program import Program

Rule = Callable[[Graph, Tile, tuple[Tile, ...]], Tile]


def rebuilt(program: Program, rule: Rule) -> Program:
    """The program with every tile made anew, operands first, by a rule; names carry over."""
    graph, memo = program.graph, {}

    def new(root: Tile) -> Tile:
        for tile in below([root]):
            if tile.id not in memo:
                made = rule(graph, tile, tuple(memo[a.id] for a in tile.args))
                if tile.id in graph.names:
                    graph.name(made, graph.names[tile.id])
                memo[tile.id] = made
        return memo[root.id]

    return replace(
        program,
        blocks={name: tile and new(tile) for name, tile in program.blocks.items()},
        outputs=tuple(new(t) for t in program.outputs),
        next_state=new(program.next_state),
        gradients=tuple((leaf, new(g)) for leaf, g in program.gradients),
        d_carry=new(program.d_carry),
    )


def same(graph: Graph, tile: Tile, args: tuple[Tile, ...]) -> Tile:
    """The tile with new operands."""
    if tile.op == "rename":
        (inner,) = args
        return graph.rename(inner, dict(zip(inner.axes, tile.axes, strict=True))) or inner
    return tile if args == tile.args else graph.make(tile.op, args, tile.attr, tile.axes)


def solves_to_inverses(program: Program) -> Program:
    """Both solves of a matrix share its inverse.

    before  Z = solve(N, R)      dR = solve(N, dZ; transposed)
    after   A = inverse(N)       Z = A R       dR = A^T dZ
    """

    def rule(graph: Graph, tile: Tile, args: tuple[Tile, ...]) -> Tile:
        if tile.op != "solve":
            return same(graph, tile, args)
        matrix, right = args
        row, column = matrix.axes
        inverse = graph.make("inverse", (matrix,), (), matrix.axes)
        graph.name(inverse, "A")
        if tile.attr[0]:
            rest = (column, *right.axes[1:])
            return graph.rename(graph.ein(inverse, right, rest), {column: row}) or right
        return graph.ein(inverse, graph.rename(right, {row: column}), right.axes) or right

    return rebuilt(program, rule)


def merge_covers(program: Program) -> Program:
    """One running sum a log decay instead of one cover a span.

    A span's cover adds its row sums to every decay before ``to`` and takes its column sums
    from every decay before ``from``: sums over rows first, then one sum over later rows.

    before  dg = cover(W1; to, from) + cover(W2; ...)
    after   dg = running(row sums of W1, column sums of W1, ...; (point, sign) each)
    """
    graph = program.graph

    def gradient(leaf: Tile, tile: Tile) -> Tile:
        if leaf.op != "log_decay":
            return tile
        parts: list[tuple[Tile, At, int]] = []
        slot: tuple[int, int] = (0, 1)
        for cover, sign in _terms(tile):
            weight, (to, origin, slot, channel) = cover.args[0], cover.attr
            tail = ("k",) if channel else ()
            ends = [(to, sign)] + ([] if origin.axis == "start" else [(origin, -sign)])
            for point, s in ends:
                axes = (() if point.border else (point.axis,)) + tail
                parts.append((graph.reduce(weight, axes) or weight, point, s))
        merged: dict[tuple[At, int], Tile] = {}
        for part, point, s in parts:
            merged[(point, s)] = graph.add(merged.get((point, s)), part) or part
        made = graph.make("running", merged.values(), (tuple(merged), slot), tile.axes)
        graph.name(made, "d" + str(leaf.attr[0]))
        return made

    return replace(
        program, gradients=tuple((leaf, gradient(leaf, g)) for leaf, g in program.gradients)
    )


def _terms(tile: Tile) -> list[tuple[Tile, int]]:
    """A sum of covers as (cover, sign)."""
    if tile.op == "add":
        return _terms(tile.args[0]) + _terms(tile.args[1])
    if tile.op == "scale":
        return [(t, s * int(tile.attr[0])) for t, s in _terms(tile.args[0])]
    return [(tile, 1)]


def sums_by_keys(program: Program) -> Program:
    """Row sums over the value axis of a product with the state become sums over the key axis.

    The gradients need X S^T anyway, so that the sum is free and X is only read once.

    before  sum_v X[r,v] (s[r] sum_k Y[r,k] S[k,v])      after  s[r] sum_k Y[r,k] (X S^T)[r,k]
    """

    def rule(graph: Graph, tile: Tile, args: tuple[Tile, ...]) -> Tile:
        made = same(graph, tile, args)
        if tile.op != "ein" or len(tile.axes) != 1 or contracted(tile) != ("v",):
            return made
        for x, product in (args, args[::-1]):
            if x.axes != product.axes or len(x.axes) != 2:
                continue
            found = _state_product(graph, product)
            if found is None:
                continue
            scale, y, state = found
            row = tile.axes[0]
            inner = graph.ein(x, state, (row, "k"))
            total = graph.ein(y, inner, (row,))
            for s in scale:
                total = (
                    graph.ein(s, total, (row,)) if isinstance(s, Tile) else graph.scale(total, s)
                )
            return total or made
        return made

    return rebuilt(program, rule)


def _state_product(graph: Graph, tile: Tile) -> tuple[list[Tile | float], Tile, Tile] | None:
    """(row scales and numbers, Y, S) of a tile s Y S with S a carried state."""
    scales: list[Tile | float] = []
    while True:
        if tile.op == "scale":
            scales.append(float(tile.attr[0]))
            tile = tile.args[0]
        elif (found := row_scale(graph, tile)) is not None:
            scales.append(found[0])
            tile = found[1]
        else:
            break
    if tile.op != "ein" or tile.axes[1:] != ("v",):
        return None
    y, state = tile.args if tile.args[1].op == "carry" else tile.args[::-1]
    if state.op != "carry" or y.axes != (tile.axes[0], "k"):
        return None
    return scales, y, state


def push_scales(program: Program) -> Program:
    """Numbers, constants and row scales leave the operands of dots.

    before  sum_k (s[r] X[r,k]) Y[k,c]      after  s[r] * sum_k X[r,k] Y[k,c]
    before  sum_r (s[r] X[r,k]) Y[r,c]      after  sum_r X[r,k] (s[r] Y[r,c])    X a raw load
    before  sum_k (-2 X[r,k]) Y[k,c]        after  -2 * sum_k X[r,k] Y[k,c]
    """

    def dot(graph: Graph, x: Tile, y: Tile, axes: tuple[str, ...]) -> Tile:
        for scaled, other in ((x, y), (y, x)):
            inner = strip(scaled)
            if inner.op in ("scale", "factor"):
                names = dict(zip(inner.axes, scaled.axes, strict=True))
                bare = graph.rename(inner.args[0], names) or inner
                made = dot(graph, bare, other, axes)
                return graph.make(inner.op, (made,), inner.attr, made.axes)
            found = row_scale(graph, scaled)
            if found is None:
                continue
            s, bare = found
            if s.axes[0] in axes:
                return graph.ein(s, dot(graph, bare, other, axes), axes) or x
            if strip(bare).op == "load" and strip(other).op != "load":
                return dot(graph, bare, graph.ein(s, other, other.axes) or other, axes)
        return graph.make("ein", (x, y), (), axes)

    def rule(graph: Graph, tile: Tile, args: tuple[Tile, ...]) -> Tile:
        if tile.op == "ein" and is_dot(tile):
            x, y = args
            return dot(graph, x, y, tile.axes)
        return same(graph, tile, args)

    return rebuilt(program, rule)


def row_scale(graph: Graph, tile: Tile) -> tuple[Tile, Tile] | None:
    """(s, X) of a tile s[r] * X[r, ..], also under a renaming."""
    inner = strip(tile)
    if inner.op != "ein" or is_dot(inner):
        return None
    names = dict(zip(inner.axes, tile.axes, strict=True))
    for s, x in (inner.args, inner.args[::-1]):
        if (
            len(s.axes) == 1
            and len(x.axes) == 2
            and set(s.axes) < set(x.axes)
            and x.axes == inner.axes
        ):
            if s.axes[0] in ("k", "v"):
                continue
            return graph.rename(s, names) or s, graph.rename(x, names) or x
    return None


PASSES = (
    merge_covers,  # dg as row sums and one running sum, before anything is moved
    solves_to_inverses,  # after the adjoint, so that both solves share one inverse
    push_scales,  # bare products first: the next rule and hash-consing find more of them equal
    sums_by_keys,  # after scales moved, so that X S^T is the one that the gradients have
    push_scales,  # once more, for the products that the last rule made
    add_one_sided,  # last: another form of gradients that are as they will be emitted
)
