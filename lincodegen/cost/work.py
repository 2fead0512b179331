"""Arithmetic of a kernel by unit, counted over the tiles that its text computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lincodegen.cost.sizes import KernelSizes
from lincodegen.cost.tile_functions import (
    Count,
    Decays,
    bounded_contract,
    halved_contract,
    inverse,
)
from lincodegen.program.ir import Tile, contracted, is_dot, strip
from lincodegen.program.orient import oriented
from lincodegen.program.program import Program
from lincodegen.schedule.numerics import factored
from lincodegen.schedule.plan import Kernel, computed
from lincodegen.schedule.together import loop_stages, points, together

CLOCK_OPS = 8
"""Operations that cut a log decay into whole part and rest, beside its two running sums."""


@dataclass(frozen=True, slots=True)
class Work:
    """Arithmetic of a launch.

    Attributes:
        dots: FLOPs of matrix products by the dtype of their operands.
        vector: float32 operations outside of them, one an entry.
        exp2: exponentials.
    """

    dots: Mapping[str, int] = field(default_factory=dict[str, int])
    vector: int = 0
    exp2: int = 0

    def plus(self, other: Work) -> Work:
        """Both together."""
        names = dict.fromkeys((*self.dots, *other.dots))
        dots = {n: self.dots.get(n, 0) + other.dots.get(n, 0) for n in names}
        return Work(dots, self.vector + other.vector, self.exp2 + other.exp2)

    def times(self, count: int) -> Work:
        """The work of so many."""
        dots = {name: flops * count for name, flops in self.dots.items()}
        return Work(dots, self.vector * count, self.exp2 * count)

    @property
    def matrix(self) -> int:
        """FLOPs of all matrix products."""
        return sum(self.dots.values())


def kernel_tiles(program: Program, kernel: Kernel) -> list[Tile]:
    """What the text of a kernel computes and loads, operands first, its dots oriented."""
    given = {strip(s.tile).id for s in kernel.given}
    mapped = oriented(program.graph, kernel.roots, given)
    return computed([mapped.get(t.id, t) for t in kernel.roots], kernel.given)


def kernel_work(sizes: KernelSizes) -> tuple[Work, Work]:
    """(every product once, all that the programs of a launch compute).

    They differ by what programs over tiles of an axis compute again each.
    """
    once, executed = Work(), Work()
    axis, tiles = sizes.kernel.tiled, sizes.tiles
    made = kernel_tiles(sizes.program, sizes.kernel)
    summed = summed_before(sizes.program, sizes.kernel, made)
    clocks = {log.id for tile in made if tile.op == "decay" for log in tile.args}
    for tile in made:
        # decayed products sum log decays themselves
        counted = tile.op != "log_decay" or tile.id in clocks
        count = Count(vector=sizes.entries(tile.axes))
        if counted:
            count = tile_count(tile, sizes, tile.id in summed)
        work = _as_work(count, sizes.call.dtype)
        shared = axis is not None and axis in (*tile.axes, *contracted(tile))
        executed = executed.plus(work.times(tiles))
        if tile.op == "contract":
            # of the dots over halves each entry needs one, and none needs the sums of log decays
            count = replace(count, operand_dots=2 * sizes.entries((*tile.axes, *contracted(tile))))
            work = _as_work(count, sizes.call.dtype)
        once = once.plus(work.times(tiles if shared else 1))
    launches = sizes.chunks * sizes.call.batch * sizes.call.heads
    return once.times(launches), executed.times(launches)


def dots_in_a_row(sizes: KernelSizes) -> int:
    """Matrix products of one chunk of one program, each of which waits for the one before."""
    tiles = kernel_tiles(sizes.program, sizes.kernel)
    summed = summed_before(sizes.program, sizes.kernel, tiles)
    return sum(tile_count(tile, sizes, tile.id in summed).products for tile in tiles)


def summed_before(program: Program, kernel: Kernel, tiles: list[Tile]) -> set[int]:
    """The decayed products whose log decays another of their group sums."""
    groups = together(program, tiles, loop_stages(tiles, kernel.looped))
    return {tile.id for group in groups for tile in group[1:]}


def _as_work(count: Count, dtype: str) -> Work:
    dots = {dtype: count.operand_dots, "fp32": count.float_dots}
    if dtype == "fp32":
        dots = {"fp32": count.operand_dots + count.float_dots}
    return Work({n: f for n, f in dots.items() if f}, count.vector, count.exp2)


def tile_count(tile: Tile, sizes: KernelSizes, summed: bool = False) -> Count:
    """The arithmetic of one tile in one program, for one chunk.

    ``summed``: its log decays are summed for another decayed product already.
    """
    n = sizes.entries(tile.axes)
    match tile.op:
        case "ein":
            return _product(tile, sizes)
        case "contract":
            return _decayed_product(tile, sizes, summed)
        case "inverse":
            return inverse(sizes.length(tile.axes[0]))
        case "decay":
            pair = not any(point.border for point in tile.attr[:2])
            return Count(vector=4 * n if pair else 2 * n, exp2=n if tile.args else 0)
        case "log_decay":
            steps = max(1, sizes.config.chunk_size.bit_length() - 1)
            return Count(vector=n * (CLOCK_OPS + 2 * steps))
        case "reduce" | "diagonal":
            return Count(vector=sizes.entries(tile.args[0].axes))
        case "running":
            return Count(vector=2 * n + sum(sizes.entries(a.axes) for a in tile.args))
        case "add" | "scale" | "factor" | "once" | "alive":
            return Count(vector=n)
        case _:
            return Count()


def _product(tile: Tile, sizes: KernelSizes) -> Count:
    """A matrix product where both operands and the result are matrices, else elementwise."""
    over = contracted(tile)
    entries = sizes.entries((*tile.axes, *over))
    if not over:
        return Count(vector=entries)
    if is_dot(tile) and len(over) == 1:
        return Count(operand_dots=2 * entries, products=1)
    return Count(vector=2 * entries)


def _decayed_product(tile: Tile, sizes: KernelSizes, summed: bool) -> Count:
    to, origin = tile.attr
    lengths = (sizes.length(to.axis), sizes.length(origin.axis), sizes.length("k"))
    parts = {"fp32": 3, "fp16": 2}.get(sizes.call.dtype, 1)
    alike = points(sizes.program, to) == points(sizes.program, origin)
    logs = 0 if summed else len(tile.args) - 2
    decays = Decays(sizes.config.chunk_size, logs, parts, alike)
    gram = "k" not in tile.axes
    bounded = factored(sizes.program.form.group) and sizes.call.dtype != "fp16"
    return (bounded_contract if bounded else halved_contract)(lengths, decays, gram)
