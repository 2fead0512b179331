"""Arithmetic of the tile functions that kernels call: inverse and decayed products.

The counts follow ``lincodegen/runtime/tiles.py`` and ``bounded.py`` statement by statement,
masked halves included, since the GPU computes these too.
"""

from __future__ import annotations

from dataclasses import dataclass

Lengths = tuple[int, int, int]
"""Rows R, columns C and channels K of a decayed product."""
MASK_OPS = 4
"""Which log decays lie between a row and a border: two compares, a conversion and a packing."""


@dataclass(frozen=True, slots=True)
class Decays:
    """What the decays between two row axes are summed from.

    Attributes:
        tokens: tokens of a chunk.
        logs: log decays a token; 0 if they are summed for another product already.
        parts: 16-bit parts in which a log decay goes through a product.
        alike: whether both axes stand at the same points: one sum serves both.
    """

    tokens: int
    logs: int
    parts: int
    alike: bool

    def sums(self, lengths: Lengths) -> tuple[int, int]:
        """(FLOPs, entries of masks) of one sum per row axis."""
        rows, columns, channels = lengths
        total = (rows if self.alike else rows + columns) * self.logs
        return 2 * self.parts * total * self.tokens * channels, total * self.tokens

    def entries(self, lengths: Lengths) -> int:
        """Exponentials of one sum per row axis."""
        rows, columns, channels = lengths
        return (rows if self.alike else rows + columns) * channels if self.logs else 0

    @property
    def dots(self) -> int:
        """Matrix products of a sum, one after the other: sums of both axes overlap."""
        return self.parts if self.logs else 0


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


def bounded_contract(lengths: Lengths, decays: Decays, gram: bool) -> Count:
    """One dot between operands scaled by exponentials of one reference a chunk."""
    rows, columns, channels = lengths
    flops, masks = decays.sums(lengths)
    scaled = (rows + columns) * channels
    masked = rows * columns if gram else 0
    return Count(
        operand_dots=flops + 2 * rows * columns * channels,
        vector=MASK_OPS * masks + 2 * scaled + masked,
        exp2=decays.entries(lengths),
        products=1 + decays.dots,
    )


def halved_contract(lengths: Lengths, decays: Decays, gram: bool) -> Count:
    """A dot for every size of blocks whose halves meet, and the pairs within a token.

    Args:
        lengths: R, C and K.
        decays: what lies between the axes.
        gram: whether the result has no channels.
    """
    rows, columns, channels = lengths
    levels = decays.tokens.bit_length() - 1
    flops, masks = decays.sums(lengths)
    scaled = (rows + columns) * channels
    selected = 4 * rows * columns + (0 if gram else rows * channels)
    own = 3 * rows * channels * (columns // decays.tokens) + 2 * rows * columns
    level = MASK_OPS * masks + 2 * scaled + selected + decays.parts * decays.entries(lengths)
    return Count(
        operand_dots=levels * (flops + 2 * rows * columns * channels),
        vector=levels * level + own,
        exp2=levels * decays.entries(lengths),
        products=levels * (1 + decays.dots),
    )
