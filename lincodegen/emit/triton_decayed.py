"""Calls of the tile functions of decayed products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lincodegen.errors import EmitError
from lincodegen.program.ir import Tile
from lincodegen.schedule.numerics import factored

if TYPE_CHECKING:
    from lincodegen.emit.triton_body import Body


def decayed_text(body: Body, group: tuple[Tile, ...]) -> str:
    """The call that computes a group of decayed products, all of one kind: a tuple."""
    tool = "bounded_products" if factored(body.program.form.group) else "decayed_products"
    body.tools.add(tool)
    tile, (to, origin) = group[0], group[0].attr
    kind = "columns" if tile.axes[0] != to.axis else "rows" if "k" in tile.axes else "gram"
    products = ", ".join(_product(body, t) for t in group) + ("," if len(group) == 1 else "")
    return f'{tool}("{kind}", ({products}), {body.clocks.between(to, origin)}, dtype)'


def _product(body: Body, tile: Tile) -> str:
    """One decayed product as tile functions take it."""
    x, y = tile.args[:2]
    to, origin = tile.attr
    own = body.clocks.within(to, origin)
    if "k" not in tile.axes:
        left, right = (x, y) if x.axes[0] == to.axis else (y, x)
        if tile.axes[0] != to.axis:
            raise EmitError("a decayed gram is needed in both orientations")
        return f"({body.value(left)}, {body.value(right)}, {own})"
    weight, values = (x, y) if "k" not in x.axes else (y, x)
    axes = (tile.axes[0], next(a for a in weight.axes if a != tile.axes[0]))
    p = body.float_value(weight)
    p = p if weight.axes == axes else f"tl.trans({p})"
    mask = body.mask(to, origin, tile.axes[0] != to.axis)
    return f"(tl.where({mask}, {p}, 0.0), {body.value(values)}, {own})"
