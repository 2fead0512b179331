"""Which decayed products of a kernel are computed together: their decays are summed once.

The decays between reads and writes depend on the points at which these stand, not on what is
multiplied. Products of a kind that stand at the same points, in the same place of the kernel's
loop, and of which none needs another, share every sum of log decays. Those of two kinds could,
too, but a gradient's kernel has no registers for the sums of all of them at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lincodegen.program.ir import At, Tile, contracted, strip
from lincodegen.program.program import Program

Points = tuple[int, ...]
"""How many log decays of a token lie before each slot of an axis, dead slots included."""


def loop_stages(order: Iterable[Tile], looped: str | None) -> dict[int, str]:
    """Where each tile stands to a kernel's loop over tiles of an axis, operands first.

    ``before`` it, ``inside``, ``sum`` for a sum over the axis, or ``after``; without a loop all
    are ``before``.
    """
    stages: dict[int, str] = {}

    def leaf(tile: Tile) -> str:
        if looped is not None and looped in tile.axes:
            return "inside"
        return stages.get(strip(tile).id, "before")

    for tile in order:
        below = [stages.get(a.id, leaf(a)) for a in tile.args]
        if looped is None:
            stages[tile.id] = "before"
        elif looped in contracted(tile):
            stages[tile.id] = "sum"
        elif "sum" in below or "after" in below:
            stages[tile.id] = "after"
        elif looped in tile.axes:
            stages[tile.id] = "inside"
        else:
            stages[tile.id] = "before"
    return stages


def points(program: Program, at: At) -> Points:
    """How many log decays per channel lie before each slot of a row axis, in its token."""
    form = program.form
    live = [form.group.clocks(getattr(slot, at.moment))[1] for slot in form.slots(at.axis)]
    slots = 1 << (len(live) - 1).bit_length()
    # a dead slot holds zeros, wherever it stands
    return (*live, *live[-1:] * (slots - len(live)))


def together(
    program: Program, order: Iterable[Tile], stages: Mapping[int, str]
) -> list[tuple[Tile, ...]]:
    """The decayed products among a kernel's tiles, operands first, in groups."""
    groups: dict[tuple[object, ...], list[Tile]] = {}
    depth: dict[int, int] = {}
    for tile in order:
        # how many decayed products stand below one another: equals need none of each other
        depth[tile.id] = max((depth.get(strip(a).id, 0) for a in tile.args), default=0)
        if tile.op == "contract":
            to, origin = tile.attr
            places = points(program, to), points(program, origin)
            logs = tuple(log.id for log in tile.args[2:])
            kind = "k" in tile.axes, tile.axes[0] == to.axis
            key = (stages[tile.id], depth[tile.id], kind, *places, logs)
            groups.setdefault(key, []).append(tile)
            depth[tile.id] += 1
    return [tuple(group) for group in groups.values()]


def gathered(order: list[Tile], groups: Iterable[tuple[Tile, ...]]) -> list[Tile]:
    """The same tiles, operands first, with the products of every group in a row.

    Each comes as soon as its operands are there: little else then lives on through its halvings.
    """
    group_of = {tile.id: group for group in groups for tile in group}
    known = {tile.id for tile in order}
    placed: dict[int, Tile] = {}

    def visit(tile: Tile) -> None:
        if tile.id in placed or tile.id not in known:
            return
        group = group_of.get(tile.id, (tile,))
        for member in group:
            for arg in member.args:
                visit(arg)
        placed.update((member.id, member) for member in group)

    for group in group_of.values():
        visit(group[0])
    for tile in order:
        visit(tile)
    return list(placed.values())
