"""The search space of a kernel: ordinal parameters, and limits as predicates over a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING

from lincodegen.config import ORDERS, SCALES, Config
from lincodegen.targets import Target

if TYPE_CHECKING:
    # a search over parameters needs no kernel, and no sympy
    from lincodegen.schedule.plan import Kernel

LEAST_TILE = 16
ROWS = 128
"""Most rows of a tile: a chunk's tokens times the slots of a token."""
CARRY_REGISTERS = 128
"""Most registers a thread may spend on the carried state: half of what the ISA gives it."""
WGMMA_ROWS = 64
WGMMA_TILES = {"k": 64, "v": 32}
"""Least tiles beside 64 rows: narrower ones leave most of a warpgroup's instruction unused."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ordinal parameter: a field of `Config` and its values, ascending."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """What a configuration must satisfy on a target; ``reason`` says why."""

    reason: str
    holds: Callable[[Config, Target], bool]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Every configuration that a kernel may take."""

    parameters: tuple[Parameter, ...]
    limits: tuple[Limit, ...]

    def configs(self, target: Target) -> Iterator[Config]:
        """Those that the limits admit, the last parameter fastest."""
        for size, k, v, warps, stages, *ways in product(*(p.values for p in self.parameters)):
            described, loaded, ordered = map(bool, ways)
            scales, order = SCALES[1] if loaded else None, ORDERS[1] if ordered else None
            config = Config(size, k, v, warps, stages, None, None, described, scales, order)
            if not self.broken(config, target):
                yield config

    def broken(self, config: Config, target: Target) -> tuple[str, ...]:
        """Reasons of the limits that a configuration breaks."""
        return tuple(limit.reason for limit in self.limits if not limit.holds(config, target))


@dataclass(frozen=True, slots=True)
class Extents:
    """Sizes behind a kernel's axes, and what else there is to choose of it.

    Attributes:
        sizes: channels by axis, "k" and "v".
        slots: rows a token of each row axis, dead ones included.
        operand_bytes: bytes of one entry of a dot operand.
        described: whether it has loads that tensor descriptors may serve.
        scaled: whether it has scales that may be applied in two places.
        ordered: whether it has products that decays may be computed before.
    """

    sizes: Mapping[str, int]
    slots: tuple[int, ...]
    operand_bytes: int
    described: bool = False
    scaled: bool = False
    ordered: bool = False

    def whole(self, axis: str) -> int:
        """The tile that holds an axis: a power of two, `LEAST_TILE` at least."""
        return max(LEAST_TILE, 1 << (self.sizes.get(axis, 1) - 1).bit_length())


def search_space(kernel: Kernel, extents: Extents) -> SearchSpace:
    """The space of one kernel: an axis that it holds whole has one value."""
    parameters = (
        Parameter("chunk_size", (16, 32, 64, 128)),
        Parameter("tile_k", _tiles(kernel, extents, "k")),
        Parameter("tile_v", _tiles(kernel, extents, "v")),
        Parameter("num_warps", (2, 4, 8)),
        Parameter("num_stages", (1, 2, 3) if _loops(kernel) else (1,)),
        Parameter("descriptors", (False, True) if extents.described else (False,)),
        Parameter("scales", (False, True) if extents.scaled else (False,)),
        Parameter("order", (False, True) if extents.ordered else (False,)),
    )
    return SearchSpace(parameters, _limits(kernel, extents))


def _loops(kernel: Kernel) -> bool:
    """Whether there is a loop to pipeline: over chunks, or over tiles of an axis."""
    return any(scan.carry is not None or scan.looped is not None for scan in kernel.scans)


def _tiles(kernel: Kernel, extents: Extents, axis: str) -> tuple[int, ...]:
    whole = extents.whole(axis)
    if axis not in kernel.cut:
        return (whole,)
    return tuple(t for t in (16, 32, 64, 128) if t <= whole)


def _carried(kernel: Kernel, extents: Extents, config: Config, target: Target) -> float:
    """Entries of a state that a thread holds, of the role that holds most."""
    cut = {"k": config.tile_k, "v": config.tile_v}
    areas = [
        prod(cut[a] if a in scan.cut else extents.whole(a) for a in ("k", "v"))
        for scan in kernel.scans
        if scan.carry is not None
    ]
    return max(areas, default=0) / (config.num_warps * target.warp_size)


def _limits(kernel: Kernel, extents: Extents) -> tuple[Limit, ...]:
    most, least = max(extents.slots), min(extents.slots)

    def staged(config: Config) -> int:
        """Bytes of the tiles that wait in shared memory: one stage less than there are."""
        tiles = (s.tile.axes for s in kernel.given if len(s.tile.axes) == 2)
        lengths = {"k": config.tile_k, "v": config.tile_v}
        rows = config.chunk_size * least
        area = sum(lengths.get(a, rows) * lengths.get(b, rows) for a, b in tiles)
        return area * extents.operand_bytes * (config.num_stages - 1)

    def wide(config: Config) -> bool:
        tiles = {"k": config.tile_k, "v": config.tile_v}
        return all(tiles[a] >= min(least, extents.whole(a)) for a, least in WGMMA_TILES.items())

    return (
        Limit(
            f"rows of a tile are at most {ROWS}",
            lambda c, _: c.chunk_size * most <= ROWS,
        ),
        Limit(
            f"a dot takes at least {LEAST_TILE} entries of each axis",
            lambda c, _: min(c.chunk_size * least, c.tile_k, c.tile_v) >= LEAST_TILE,
        ),
        Limit(
            "loaded tiles wait in shared memory",
            lambda c, t: staged(c) <= t.shared_per_block,
        ),
        Limit(
            "descriptors are loaded through where the hardware has them",
            lambda c, t: t.descriptors or not c.descriptors,
        ),
        Limit(
            "the carried state takes at most half of a thread's registers",
            lambda c, t: _carried(kernel, extents, c, t) <= CARRY_REGISTERS,
        ),
        Limit(
            "warpgroup matrix instructions want tiles of 64 keys and 32 values",
            lambda c, t: t.matrix_unit != "wgmma" or wide(c),
        ),
        Limit(
            "warpgroup matrix instructions take four warps and 64 rows",
            lambda c, t: (
                t.matrix_unit != "wgmma"
                or (
                    c.num_warps >= 4
                    and (kernel.role == "prep" or c.chunk_size * most >= WGMMA_ROWS)
                )
            ),
        ),
    )
