"""Tile functions for channel decays with a proved lower bound: one reference a chunk.

With ``BOUND`` the least log2 decay of a token, the decays before no row of a chunk add up to more
than BOUND BT; where that stays below 124 both factors of a decay are finite in float32 and
bfloat16, and every decayed product is one dot. A later reference than the chunk's start would
allow a wider bound, but make the rounding of a row depend on later tokens. float16 takes the
general form.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lincodegen.runtime.tiles import bits_of_logs, decayed_products, prefix_sum


@triton.jit
def _scaled(product, b_to, b_from, GRAM: tl.constexpr, dtype: tl.constexpr):
    """A decayed product as one dot, between operands scaled by decays to and from the start."""
    b_x, b_y = product[0], product[1]
    b_right = (b_y * b_from).to(dtype)
    if GRAM:
        b_z = tl.dot((b_x * b_to).to(dtype), tl.trans(b_right), input_precision="ieee")
    else:
        b_z = tl.dot(b_x.to(dtype), b_right, input_precision="ieee") * b_to
    return b_z


@triton.jit
def bounded_products(
    KIND: tl.constexpr,
    products,
    b_logs,
    READS: tl.constexpr,
    WRITES: tl.constexpr,
    dtype: tl.constexpr,
):
    """The same as `decayed_products`."""
    if dtype == tl.float16:
        return decayed_products(KIND, products, b_logs, READS, WRITES, dtype)
    b_late = tl.exp2(prefix_sum(b_logs, READS, bits_of_logs(dtype)))
    b_early = tl.exp2(-prefix_sum(b_logs, WRITES, bits_of_logs(dtype)))
    b_to = b_early if KIND == "columns" else b_late
    b_from = b_late if KIND == "columns" else b_early
    b_scaled = ()
    for j in tl.static_range(len(products)):
        b_z = _scaled(products[j], b_to, b_from, KIND == "gram", dtype)
        b_scaled += (b_z,)
    return b_scaled
