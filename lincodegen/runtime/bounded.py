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

from lincodegen.runtime.tiles import decayed_columns, decayed_gram, decayed_rows, prefix_sum


@triton.jit
def bounded_gram(b_x, b_y, b_logs, READS: tl.constexpr, WRITES: tl.constexpr, OWN: tl.constexpr):
    """[R, C]: sum_k x[r,k] y[c,k] decay(r, c), not yet masked."""
    if b_x.dtype == tl.float16:
        return decayed_gram(b_x, b_y, b_logs, READS, WRITES, OWN)
    EXACT: tl.constexpr = b_x.dtype == tl.float32
    b_left = (b_x * tl.exp2(prefix_sum(b_logs, READS, EXACT))).to(b_x.dtype)
    b_right = (b_y * tl.exp2(-prefix_sum(b_logs, WRITES, EXACT))).to(b_x.dtype)
    return tl.dot(b_left, tl.trans(b_right), input_precision="ieee")


@triton.jit
def bounded_rows(b_p, b_y, b_logs, READS: tl.constexpr, WRITES: tl.constexpr, OWN: tl.constexpr):
    """[R, K]: sum_c p[r,c] y[c,k] decay(r, c), p zero where a write is not visible."""
    if b_y.dtype == tl.float16:
        return decayed_rows(b_p, b_y, b_logs, READS, WRITES, OWN)
    EXACT: tl.constexpr = b_y.dtype == tl.float32
    b_right = (b_y * tl.exp2(-prefix_sum(b_logs, WRITES, EXACT))).to(b_y.dtype)
    b_z = tl.dot(b_p.to(b_y.dtype), b_right, input_precision="ieee")
    return b_z * tl.exp2(prefix_sum(b_logs, READS, EXACT))


@triton.jit
def bounded_columns(b_p, b_x, b_logs, READS: tl.constexpr, WRITES: tl.constexpr, OWN: tl.constexpr):
    """[C, K]: sum_r p[c,r] x[r,k] decay(r, c), p [C, R] zero where not visible."""
    if b_x.dtype == tl.float16:
        return decayed_columns(b_p, b_x, b_logs, READS, WRITES, OWN)
    EXACT: tl.constexpr = b_x.dtype == tl.float32
    b_left = (b_x * tl.exp2(prefix_sum(b_logs, READS, EXACT))).to(b_x.dtype)
    b_z = tl.dot(b_p.to(b_x.dtype), b_left, input_precision="ieee")
    return b_z * tl.exp2(-prefix_sum(b_logs, WRITES, EXACT))
