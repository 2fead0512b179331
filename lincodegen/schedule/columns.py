"""What a chunk does to the columns of the state: whether they stay apart, whether zeros stay."""

from __future__ import annotations

from collections.abc import Sequence

from lincodegen.program.ir import Tile, contracted
from lincodegen.program.program import Program


def mixes_rows(program: Program, update: Sequence[Tile]) -> bool:
    """Whether rows of the state after a chunk depend on other rows of it before.

    ``update`` are the tiles of the state after the chunk, operands first.
    """
    above = {program.carry.id}
    for tile in update:
        if any(arg.id in above for arg in tile.args):
            above.add(tile.id)
            if "k" in contracted(tile):
                return True
    return False


def written_by_values(program: Program, update: Sequence[Tile]) -> bool:
    """Whether zeros stay zeros in columns where every operand with values is zero."""
    zero: set[int] = {program.carry.id}
    for tile in update:
        below = [arg.id in zero for arg in tile.args]
        match tile.op:
            case "load":
                vanishes = "v" in tile.axes
            case "ein" | "contract" | "solve":
                vanishes = any(below)
            case "add" | "scale" | "factor" | "rename" | "broadcast" | "reduce":
                vanishes = all(below)
            case _:
                vanishes = False
        if vanishes:
            zero.add(tile.id)
    return program.next_state.id in zero
