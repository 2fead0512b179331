"""Which tiles a scan loads through a pointer or a descriptor, and the text of such a load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lincodegen.emit.triton_rows import SIZES, TILES, Rows
from lincodegen.program.ir import Axes, strip
from lincodegen.schedule.plan import Kernel

LOADING = ("element_type", "load_rows")
"""Functions of `lincodegen.runtime.rows` that a kernel may call."""
_DESCRIBED = ("scan", "states")


@dataclass(frozen=True, slots=True)
class RowTile:
    """Rows [B, T, heads, D] of which a chunk's are one tile, one row a token.

    Attributes:
        name: of the tensor.
        axis: D's, "k" or "v".
        row: the vector of row numbers.
        head: the scalar among the tensor's own heads.
        mask: of live rows.
        column: the tile's first channel.
    """

    name: str
    axis: str
    row: str
    head: str
    mask: str
    column: str

    def load(self) -> str:
        """The statement that loads the tile."""
        at = f"(i_bh // H, {self.head}, i_t * BT, {self.column})"
        columns = f"o_{self.axis}, m_{self.axis}, {SIZES[self.axis]}"
        text = f"load_rows({self.name}, {self.row}, {self.mask}, {columns}, {at})"
        return f"b_{self.name} = {text}"


def row_tiles(kernel: Kernel, rows: Rows, loads: Mapping[str, Axes]) -> dict[str, RowTile]:
    """The row tiles of a scan by name; other kernels load through pointers alone.

    So do summaries: a descriptor ends where a sequence does, not where a segment does; and roles
    of one launch, whose tiles differ.

    Args:
        kernel: that loads.
        rows: how its rows lie.
        loads: the axes of every tile that it loads.
    """
    operands = {o.name: o for _, o in rows.program.operands}
    stores = {s.name: s for s in kernel.given}
    found: dict[str, RowTile] = {}
    for name, own in loads.items() if kernel.role in _DESCRIBED else ():
        if name in stores and stores[name].kind != "rows":
            continue
        axes = strip(stores[name].tile).axes if name in stores else own
        axes = operands[name].axes if name in operands and name not in stores else axes
        if len(axes) < 2 or axes[1] not in SIZES or rows.slots(axes[0]) > 1:
            continue
        head, row = "i_h", "row"
        if name in operands:
            head, row = f"i_h // (H // H_{name})", f"row_{name}"
        column = f"i_{axes[1]} * {TILES[axes[1]]}" if axes[1] == kernel.tiled else "0"
        found[name] = RowTile(name, axes[1], row, head, rows.mask(axes[0]), column)
    return found
