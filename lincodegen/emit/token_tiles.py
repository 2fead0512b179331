"""Axes of token values as Triton tiles: a power of two of offsets, masked to the size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lincodegen.emit.token_python import product_text, size_text
from lincodegen.program.token_names import Names
from lincodegen.program.token_shapes import ONE
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Shape

DOT = 16
"""The shortest axis that ``tl.dot`` takes."""


@dataclass(frozen=True, slots=True)
class TileAxis:
    """One axis of a kernel.

    ``size`` and ``tile`` are texts of integers, ``offsets`` and ``mask`` names; ``mask`` is
    empty where the tile has no padding. ``is_split``: programs share the axis between them.
    """

    dim: Dim
    size: str
    tile: str
    offsets: str
    mask: str
    is_split: bool = False
    is_dotted: bool = False

    @property
    def lines(self) -> list[str]:
        """The statements that define offsets and mask."""
        start = f"tl.program_id(1) * {self.tile} + " if self.is_split else ""
        lines = [f"{self.offsets} = {start}tl.arange(0, {self.tile})"]
        return [*lines, f"{self.mask} = {self.offsets} < {self.size}"] if self.mask else lines

    @property
    def tile_size(self) -> str:
        """The host's expression for the tile's size."""
        power = f"triton.next_power_of_2({self.size})"
        return f"max({DOT}, {power})" if self.is_dotted else power


class TileAxes:
    """The axes of one kernel, by dimension polynomial."""

    def __init__(self, names: Names, dotted: Iterable[Dim], split: Dim | None) -> None:
        self._names = names
        self._dotted = set(dotted)
        self._split = split
        self.axes: dict[Dim, TileAxis] = {}

    def axis(self, dim: Dim) -> TileAxis:
        """The axis of a dimension; known from then on."""
        if dim not in self.axes:
            self.axes[dim] = self._new(dim)
        return self.axes[dim]

    def shape_text(self, shape: Shape) -> str:
        """The shape of a tile: ``[BK, BV]``."""
        return f"[{', '.join('1' if d == ONE else self.axis(d).tile for d in shape)}]"

    def mask_text(self, shape: Shape, only: Iterable[int] | None = None) -> str:
        """The mask of a tile, or of some of its axes; empty where there is no padding."""
        chosen = range(len(shape)) if only is None else only
        parts = []
        for position in chosen:
            if shape[position] != ONE and (mask := self.axis(shape[position]).mask):
                parts.append(along(mask, position, len(shape)))
        return " & ".join(parts)

    def offset_text(self, shape: Shape, start: Dim) -> str:
        """Offsets of a tile in a tensor stored row by row, ``start`` entries in."""
        parts = [] if start == Dim.of(0) else [size_text(start)]
        stride = ONE
        for position in reversed(range(len(shape))):
            if shape[position] != ONE:
                offsets = along(self.axis(shape[position]).offsets, position, len(shape))
                factor = "" if stride == ONE else f" * {product_text(stride)}"
                parts.insert(len(parts) if start == Dim.of(0) else 1, f"{offsets}{factor}")
            stride = stride * shape[position]
        if start == Dim.of(0):
            parts.reverse()
        return " + ".join(parts)

    def _new(self, dim: Dim) -> TileAxis:
        label = re.sub(r"\W+", "_", size_text(dim)).strip("_")
        count, dotted = dim.constant, dim in self._dotted
        offsets = self._names.free(f"o_{label.lower()}")
        if count is not None:
            tile = max(1 << (count - 1).bit_length(), DOT if dotted else 1)
            mask = "" if tile == count else self._names.free(f"m_{label}")
            return TileAxis(dim, str(count), str(tile), offsets, mask, False, dotted)
        mask = self._names.free(f"m_{label.lower()}")
        size = product_text(dim)
        tile = self._names.free(f"B{label}")
        return TileAxis(dim, size, tile, offsets, mask, dim == self._split, dotted)


def along(vector: str, position: int, rank: int) -> str:
    """A 1-D tile's name laid along one axis of a tile: ``o_k[:, None]``."""
    if rank == 1:
        return vector
    return f"{vector}[:, None]" if position == 0 else f"{vector}[None, :]"


def numel(shape: Shape) -> Dim:
    """The number of entries of a shape."""
    total = ONE
    for dim in shape:
        total = total * dim
    return total
