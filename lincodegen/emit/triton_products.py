"""Matrix products as text, with the scales and decays that a kernel applies to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lincodegen.program.ir import Tile, contracted, is_dot, strip

if TYPE_CHECKING:
    from lincodegen.emit.triton_body import Body

FUNCTIONS = ("decayed_dot", "dot_of_scaled", "scaled_dot")
"""Functions of `lincodegen.runtime.products` that a kernel may call."""


def factors(dot: Tile) -> tuple[Tile, Tile] | None:
    """(a, b) of a product a b of two matrices, a with its rows and b with its columns."""
    if dot.op != "ein" or not is_dot(dot):
        return None
    x, y = dot.args
    left, right = (x, y) if dot.axes[0] in x.axes else (y, x)
    return (left, right) if dot.axes[1] in right.axes else None


def product_in(body: Body, tile: Tile) -> Tile | None:
    """The product in a tile that is one with scaled rows, or one times decays between rows.

    None where something else needs the product, or where the operand that has the scaled rows was
    computed: then nothing is gained by scaling it.
    """
    if tile.op != "ein" or contracted(tile) or len(tile.axes) != 2:
        return None
    for by, product in (tile.args, tile.args[::-1]):
        pair = factors(product)
        if pair is None or product.axes != tile.axes or not body.inline(product):
            continue
        if body.summed(product) or body.summed(tile):
            continue
        if (by.axes == tile.axes[:1] and body.raw(pair[0])) or _decays(body, by):
            return product
    return None


def fused_text(body: Body, tile: Tile, product: Tile) -> str:
    """A product with scaled rows, or times decays between rows; the launcher settles the order."""
    by = tile.args[0] if tile.args[1] is product else tile.args[1]
    operands = ", ".join(_operands(body, product))
    if len(by.axes) == 1:
        body.tools.add("scaled_dot")
        return f"scaled_dot({operands}, {body.value(by)}, SCALES, PRECISION)"
    body.tools.add("decayed_dot")
    mask, later, earlier = body.decay_parts(by)
    return f"decayed_dot({operands}, {mask}, {later}, {earlier}, ORDER, PRECISION)"


def product_text(body: Body, tile: Tile) -> str:
    """A product; where its summands are scaled, the launcher settles to which operand that goes."""
    left, right = factors(tile) or tile.args
    (over,) = contracted(tile)
    found = _scaled(right, over)
    if found and body.raw(left) and body.inline(right) and right.axes == (over, tile.axes[1]):
        scale, matrix = found
        body.tools.add("dot_of_scaled")
        operands = f"{body.dot_value(left, (tile.axes[0], over))}, {body.value(matrix)}"
        return f"dot_of_scaled({operands}, {body.value(scale)}, SCALES, PRECISION)"
    return f"tl.dot({', '.join(_operands(body, tile))}, input_precision=PRECISION)"


def _operands(body: Body, product: Tile) -> tuple[str, str]:
    left, right = factors(product) or product.args
    (over,) = contracted(product)
    row, column = product.axes
    return body.dot_value(left, (row, over)), body.dot_value(right, (over, column))


def _scaled(tile: Tile, axis: str) -> tuple[Tile, Tile] | None:
    """(scale, matrix) of a matrix times a vector along one of its axes."""
    if tile.op != "ein" or contracted(tile) or len(tile.axes) != 2:
        return None
    for scale, matrix in (tile.args, tile.args[::-1]):
        if scale.axes == (axis,) and matrix.axes == tile.axes:
            return scale, matrix
    return None


def _decays(body: Body, tile: Tile) -> bool:
    """Whether a tile holds decays between rows, all channels alike, that nothing else needs."""
    if tile.op != "decay" or not tile.args or tile.attr[2] or strip(tile) is not tile:
        return False
    to, origin, _ = tile.attr
    return not to.border and not origin.border and body.inline(tile)
