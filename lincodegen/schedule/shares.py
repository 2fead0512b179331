"""Sharing a contracted axis out over programs: each adds its part of every sum over it.

A tile without the axis is a sum of parts over tiles of the axis if it is linear in what was
summed over it; terms that were not are added by the first program alone.

before  dbeta = sum_k dK~[m,k] k[m,k] + sum_v dR v           (k whole in every program)
after   dbeta = sum over programs of (sum_k over own tile + once(sum_v dR v))
"""

from __future__ import annotations

from collections.abc import Iterable

from lincodegen.program.ir import Graph, Tile, contracted, strip

_LINEAR = ("scale", "factor", "reduce", "rename", "broadcast", "running")


def shared(graph: Graph, roots: Iterable[Tile], given: set[int], axis: str) -> list[Tile] | None:
    """The roots as parts of one program each; None if one of them is no sum of parts.

    Roots over the axis stay as they are: each program writes its own slice.
    """
    memo: dict[int, bool] = {}
    made: list[Tile] = []
    for root in roots:
        if not _sliced(root, given, axis, memo):
            return None
        if axis in root.axes:
            made.append(root)
            continue
        part, rest = _parts(graph, root, given, axis)
        once = None if rest is None else graph.make("once", (rest,), (), rest.axes)
        total = graph.add(part, once)
        if total is None:
            return None
        made.append(total)
    return made


def _depends(tile: Tile, given: set[int], axis: str, memo: dict[int, bool]) -> bool:
    """Whether a tile holds a sum over the axis."""
    if strip(tile).id in given:
        return False
    key = tile.id
    if key not in memo:
        memo[key] = axis in contracted(tile) or any(
            _depends(a, given, axis, memo) for a in tile.args
        )
    return memo[key]


def _sliced(root: Tile, given: set[int], axis: str, memo: dict[int, bool]) -> bool:
    """Whether no sum over the axis flows into a tile that has it, nor into another such sum."""
    depends: dict[int, bool] = {}
    for tile in _below(root, given):
        inside = any(_depends(a, given, axis, depends) for a in tile.args)
        if inside and (axis in tile.axes or axis in contracted(tile)):
            return False
        two = (
            tile.op in ("ein", "contract")
            and sum(_depends(a, given, axis, depends) for a in tile.args[:2]) > 1
        )
        if two or (inside and tile.op in ("inverse", "contract")):
            return False
    memo.update(depends)
    return True


def _below(root: Tile, given: set[int]) -> list[Tile]:
    order: list[Tile] = []
    seen: set[int] = set()

    def visit(tile: Tile) -> None:
        if tile.id in seen or strip(tile).id in given:
            return
        seen.add(tile.id)
        for arg in tile.args:
            visit(arg)
        order.append(tile)

    visit(root)
    return order


def _parts(graph: Graph, tile: Tile, given: set[int], axis: str) -> tuple[Tile | None, Tile | None]:
    """(the part that is linear in sums over the axis, the part without any)."""
    if axis in contracted(tile):
        return tile, None
    if not _depends(tile, given, axis, {}):
        return None, tile
    if tile.op == "add":
        left, right = (_parts(graph, a, given, axis) for a in tile.args)
        return graph.add(left[0], right[0]), graph.add(left[1], right[1])
    if tile.op == "running":
        return _running_parts(graph, tile, given, axis)
    if tile.op in _LINEAR:
        part, rest = _parts(graph, tile.args[0], given, axis)
        return _again(graph, tile, part), _again(graph, tile, rest)
    x, y = tile.args
    first = _depends(x, given, axis, {})
    pair = _parts(graph, x if first else y, given, axis)
    made = [
        None if p is None else graph.make("ein", (p, y) if first else (x, p), (), tile.axes)
        for p in pair
    ]
    return made[0], made[1]


def _again(graph: Graph, tile: Tile, operand: Tile | None) -> Tile | None:
    """The same linear operation on a part of its operand."""
    if operand is None:
        return None
    if tile.op == "rename":
        return graph.rename(operand, dict(zip(operand.axes, tile.axes, strict=True)))
    return graph.make(tile.op, (operand,), tile.attr, tile.axes)


def _running_parts(
    graph: Graph, tile: Tile, given: set[int], axis: str
) -> tuple[Tile | None, Tile | None]:
    """A running sum of parts: each operand split, each side summed by itself."""
    points, slot = tile.attr
    sides: list[Tile | None] = []
    pairs = [_parts(graph, a, given, axis) for a in tile.args]
    for side in (0, 1):
        kept = [(p[side], at) for p, at in zip(pairs, points, strict=True) if p[side] is not None]
        if not kept:
            sides.append(None)
            continue
        attr = (tuple(at for _, at in kept), slot)
        sides.append(graph.make("running", [p for p, _ in kept if p is not None], attr, tile.axes))
    return sides[0], sides[1]
