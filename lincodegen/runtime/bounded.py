"""Tile functions for channel decays with a proved lower bound: one reference a chunk.

With ``BOUND`` the least log2 decay of a token, no clock of a chunk differs from that of its
first row by more than BOUND BT; where that stays below 124 both factors of a decay are finite in
float32 and bfloat16, and every decayed product is one dot. A later row would allow a wider
bound, but make the rounding of a row depend on later tokens. float16 takes the general form.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lincodegen.runtime.tiles import decayed_columns, decayed_gram, decayed_rows


@triton.jit
def _first(b_x):
    """The first row of a tile, as a vector."""
    o_r = tl.arange(0, b_x.shape[0])
    return tl.sum(tl.where(o_r[:, None] == 0, b_x, 0.0), 0)


@triton.jit
def _around(b_w, b_g, b_w0, b_g0, sign: tl.constexpr):
    """2^(sign (clock - reference))."""
    return tl.exp2(sign * ((b_w - b_w0[None, :]) + (b_g - b_g0[None, :])))


@triton.jit
def bounded_gram(
    b_x, b_y, b_wr, b_gr, b_wc, b_gc, RB: tl.constexpr, CB: tl.constexpr, FIRST: tl.constexpr
):
    """[R, C]: sum_k x[r,k] y[c,k] 2^(clock_r - clock_c), not yet masked."""
    if b_x.dtype == tl.float16:
        return decayed_gram(b_x, b_y, b_wr, b_gr, b_wc, b_gc, RB, CB, FIRST)
    b_w0, b_g0 = _first(b_wr), _first(b_gr)
    b_left = (b_x * _around(b_wr, b_gr, b_w0, b_g0, 1.0)).to(b_x.dtype)
    b_right = (b_y * _around(b_wc, b_gc, b_w0, b_g0, -1.0)).to(b_x.dtype)
    return tl.dot(b_left, tl.trans(b_right), input_precision="ieee")


@triton.jit
def bounded_rows(
    b_p, b_y, b_wr, b_gr, b_wc, b_gc, RB: tl.constexpr, CB: tl.constexpr, FIRST: tl.constexpr
):
    """[R, K]: sum_c p[r,c] y[c,k] 2^(clock_r - clock_c), p zero where a write is not visible."""
    if b_y.dtype == tl.float16:
        return decayed_rows(b_p, b_y, b_wr, b_gr, b_wc, b_gc, RB, CB, FIRST)
    b_w0, b_g0 = _first(b_wr), _first(b_gr)
    b_right = (b_y * _around(b_wc, b_gc, b_w0, b_g0, -1.0)).to(b_y.dtype)
    b_z = tl.dot(b_p.to(b_y.dtype), b_right, input_precision="ieee")
    return b_z * _around(b_wr, b_gr, b_w0, b_g0, 1.0)


@triton.jit
def bounded_columns(
    b_p, b_x, b_wr, b_gr, b_wc, b_gc, RB: tl.constexpr, CB: tl.constexpr, FIRST: tl.constexpr
):
    """[C, K]: sum_r p[c,r] x[r,k] 2^(clock_r - clock_c), p [C, R] zero where not visible."""
    if b_x.dtype == tl.float16:
        return decayed_columns(b_p, b_x, b_wr, b_gr, b_wc, b_gc, RB, CB, FIRST)
    b_w0, b_g0 = _first(b_wr), _first(b_gr)
    b_left = (b_x * _around(b_wr, b_gr, b_w0, b_g0, 1.0)).to(b_x.dtype)
    b_z = tl.dot(b_p.to(b_x.dtype), b_left, input_precision="ieee")
    return b_z * _around(b_wc, b_gc, b_w0, b_g0, -1.0)
