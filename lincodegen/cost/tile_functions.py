"""Arithmetic of the tile functions that kernels call: inverse and decayed products.

The counts follow ``lincodegen/runtime/tiles.py`` and ``bounded.py`` statement by statement,
masked halves included, since the GPU computes these too.
"""

from __future__ import annotations

from dataclasses import dataclass

Lengths = tuple[int, int, int]
"""Rows R, columns C and channels K of a decayed product."""
SLOT_OPS = 6
"""A column of a sub-block is taken out by select and sum, of clock, rest and values."""
PAIR_OPS = 8
"""Gaps of clock and rest, their sum, its bound, two products, a sum and a select."""


@dataclass(frozen=True, slots=True)
class Count:
    """Arithmetic of one tile.

    Attributes:
        operand_dots: FLOPs of matrix products on the operands' dtype.
        float_dots: FLOPs of matrix products in IEEE float32.
        products: matrix products, one after the other.
    """

    operand_dots: int = 0
    float_dots: int = 0
    vector: int = 0
    exp2: int = 0
    products: int = 0


def inverse(rows: int) -> Count:
    """(I - N)^-1 by merging blocks: two products of [n, n] blocks a merge to 2 n, n >= 16.

    One block of 16 takes six products of [16, 16].
    """
    flops, products, blocks = 6 * 2 * 16**3, 6, rows // 16
    flops, products = blocks * flops, blocks * products
    n = 16
    while 2 * n <= rows:
        merges = rows // (2 * n)
        flops += merges * 2 * 2 * n**3
        products += merges * 2
        n *= 2
    return Count(float_dots=flops, vector=4 * rows * rows, products=products)


def bounded_contract(lengths: Lengths, gram: bool) -> Count:
    """One dot between operands scaled by exponentials of one reference a chunk."""
    rows, columns, channels = lengths
    scaled = (rows + columns) * channels
    masked = rows * columns if gram else 0
    flops = 2 * rows * columns * channels
    return Count(operand_dots=flops, vector=4 * scaled + masked, exp2=scaled, products=1)


def pairwise_contract(lengths: Lengths, block: tuple[int, int], blocks: int, gram: bool) -> Count:
    """Sub-blocks: off-diagonal ones by one dot a block row, diagonal ones pair by pair.

    Args:
        lengths: R, C and K.
        block: rows of a sub-block on the axis of the result and on the other one.
        blocks: sub-blocks on an axis.
        gram: whether the result has no channels: one rounding less.
    """
    rows, columns, channels = lengths
    own, other = blocks * block[0], block[1]
    passes = blocks - 1
    scaled = (rows + columns) * channels
    off = passes * (6 * scaled + (rows * columns if gram else own * channels))
    taken = SLOT_OPS * blocks * other * channels
    pairs = own * channels
    return Count(
        operand_dots=passes * 2 * rows * columns * channels,
        vector=off + other * (taken + PAIR_OPS * pairs),
        exp2=passes * scaled + other * pairs,
        products=passes,
    )
