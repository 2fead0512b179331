"""The backward of additive rules: scans side by side on one grid, no state of a chunk in memory.

Rules:

* A gradient whose tile depends on the carry of one scan alone, and sums over one axis of it
  alone, is written by that scan, whose programs share the other axis out.
* A last sum over the shared axis, such as that of a row scale's gradient or of the gradient of
  a clock, is written as one part a program.
* Gradients of log decays are running sums of those of the clocks. What is handed from chunk to
  chunk, <S_end, dS_end>, is one number: a kernel of its own starts it anew from the states that
  the scans keep at the end of every so many chunks, so that nothing drifts along a sequence.
"""

from __future__ import annotations

from collections.abc import Iterable

from lincodegen.program.ir import Tile, contracted
from lincodegen.program.program import OneSided, Program
from lincodegen.program.turn import turned
from lincodegen.schedule.plan import Carry, Kernel, Stored, computed
from lincodegen.schedule.shares import shared

BORDER_CHUNKS = 2
"""Chunks between two kept states: few, as the running sum over them drifts.

With eight, the gradient of a head's decay, a sum over all tokens, was off by a quarter in bfloat16.
"""
_ROLES = {"k": "keys", "v": "values"}
ONE_SIDED = ("scans", "keys", "values", "clocks")
"""Roles that write gradients alone: of operands, and of the clocks."""
Side = tuple[str, bool]
"""The axis that programs share out, and whether the scan goes backwards."""


def one_sided_kernels(program: Program) -> tuple[Kernel, ...]:
    """The kernels of a backward with one-sided gradients; none where a gradient has no side."""
    one = program.one_sided
    if one is None or _sums((program.next_state, program.d_carry)):
        return ()
    stores = [Stored(d, f"d{program.operand(leaf).name}", "rows") for leaf, d in one.loads]
    stores += _clock_rows(program, one)
    sides: dict[Side, list[Stored]] = {("k", False): [], ("k", True): [], ("v", True): []}
    for stored in stores:
        side = _side(program, stored.tile)
        if side not in sides:
            return ()
        sides[side].append(stored)
    roles = [_role(program, side, outputs) for side, outputs in sides.items() if outputs]
    if len(roles) != len(sides) or None in roles:
        return ()
    scans = _on_one_grid([role for role in roles if role])
    return (scans, *([_clocks(program, one)] if one.logs else []))


def _clock_rows(program: Program, one: OneSided) -> list[Stored]:
    """The gradients of the clocks, under names that no gradient of an operand has."""
    taken = {f"d{o.name}" for _, o in program.operands}
    taken |= {f"d{o.name}" for _, o, _ in program.logs}
    rows = []
    for row in one.rows:
        name = f"dG_{row.axes[0]}"
        while name in taken:
            name += "_"
        rows.append(Stored(row, name, "rows"))
    return rows


def _sums(tiles: Iterable[Tile]) -> bool:
    """Whether anything below sums over an axis of the state."""
    return any({"k", "v"} & {*contracted(t)} for t in computed(tiles, ()))


def _side(program: Program, tile: Tile) -> Side | None:
    carries = {t.attr[0] for t in computed([tile], ()) if t.op == "carry"}
    if len(carries) > 1:
        return None
    reverse = program.carry.attr[0] not in carries
    for axis in ("k", "v"):
        own = axis in tile.axes or len(tile.axes) == 1
        if own and shared(program.graph, [tile], set(), axis) is not None:
            return axis, reverse
    return None


def _role(program: Program, side: Side, outputs: list[Stored]) -> Kernel | None:
    """One scan: what its programs share out, sum and keep."""
    axis, reverse = side
    leaf, update = program.carry, program.next_state
    first, last, kept = "h0", "ht", "h"
    if reverse:
        leaf, update = program.d_state, program.d_carry
        first, last, kept = "dht", "dh0", "dh"
    roots = [s.tile for s in outputs]
    if axis == "k":
        turn = turned(program.graph, leaf, update, roots)
        if turn is None:
            return None
        leaf, update, roots = turn.leaf, turn.update, list(turn.roots)
    made = shared(program.graph, roots, set(), axis)
    if made is None:
        return None
    stores = tuple(
        Stored(tile, s.name, "rows" if axis in tile.axes else "parts")
        for s, tile in zip(outputs, made, strict=True)
    )
    logs = program.one_sided is not None and bool(program.one_sided.logs)
    # the state's cotangent is written once, the last state for the gradients of decays alone
    writes = axis == "k" and (reverse or logs)
    keeps = kept if axis == "k" and logs else None
    carry = Carry(leaf, update, first, last if writes else None, keeps, reverse, borders=True)
    direction = "bwd" if reverse else "fwd"
    return Kernel(_ROLES[axis], direction, (), stores, carry, axis, None)


def _on_one_grid(roles: list[Kernel]) -> Kernel:
    outputs = tuple(s for role in roles for s in role.outputs)
    return Kernel("scans", "bwd", (), outputs, None, None, None, roles=tuple(roles))


def _clocks(program: Program, one: OneSided) -> Kernel:
    """The gradients of log decays of the chunks up to a kept state."""
    ends = (
        Stored(program.next_state, "h", "borders"),
        Stored(program.d_state, "dh", "borders"),
    )
    outputs = tuple(Stored(d, f"d{program.operand(leaf).name}", "rows") for leaf, d in one.logs)
    given = (*_clock_rows(program, one), *ends)
    return Kernel("clocks", "bwd", given, outputs, None, None, None, first=(one.start,))
