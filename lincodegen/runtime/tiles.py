"""Tile functions of the generated Triton kernels: inverse, decayed products, inner product.

A chunk's rows are token-major, ``RS`` (``CS``) slots a token on the row (column) axis; sub-blocks
are whole tokens with at most 16 rows on either axis. Clocks are cumulative log2 decays as a
whole part, exact, and a small rest.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _quadrants(b_n, BC: tl.constexpr):
    """N11, N21, N22 of [2 BC, 2 BC]; N12 is zero."""
    b_cols = tl.permute(tl.reshape(b_n, [2, BC, 2, BC]), [1, 3, 0, 2])
    b_left, b_right = tl.split(b_cols)
    b_n11, b_n21 = tl.split(b_left)
    _, b_n22 = tl.split(b_right)
    return b_n11, b_n21, b_n22


@triton.jit
def _lower_blocks(b_t11, b_t21, b_t22, BC: tl.constexpr):
    """[[T11, 0], [T21, T22]] of [BC, BC] blocks."""
    b_left = tl.join(b_t11, b_t21)
    b_right = tl.join(tl.zeros_like(b_t22), b_t22)
    return tl.reshape(tl.permute(tl.join(b_left, b_right), [2, 0, 3, 1]), [2 * BC, 2 * BC])


@triton.jit
def _unit_lower_inverse_16(b_n):
    """(I - N)^-1 of one [16, 16] block, by merging blocks of 2, 4 and 8."""
    o_r = tl.arange(0, 16)[:, None]
    o_c = tl.arange(0, 16)[None, :]
    b_t = tl.where(o_r == o_c, 1.0, 0.0) + tl.where(o_r // 2 == o_c // 2, b_n, 0.0)
    for i in tl.static_range(1, 4):
        # the lower left quadrants of the diagonal blocks of 4, 8, 16
        m_n21 = (o_r >> (i + 1) == o_c >> (i + 1)) & (o_r >> i != o_c >> i)
        b_nt = tl.dot(tl.where(m_n21, b_n, 0.0), b_t, input_precision="ieee")
        b_t += tl.dot(b_t, b_nt, input_precision="ieee")
    return b_t


@triton.jit
def unit_lower_inverse(b_n, BT: tl.constexpr):
    """(I - N)^{-1} of a strictly lower triangular [BT, BT] tile, float32; BT >= 16.

    Neighbouring blocks merge to [[T11, 0], [T22 N21 T11, T22]]: block substitution, so that
    nothing grows that is not in the inverse itself. Quadrants are cut out and put together by
    split and join, in registers: no dot is larger than half the tile, which keeps float32
    dots from spilling.
    """
    if BT == 16:
        b_t = _unit_lower_inverse_16(b_n)
    else:
        b_n11, b_n21, b_n22 = _quadrants(b_n, BT // 2)
        b_t11 = unit_lower_inverse(b_n11, BT // 2)
        b_t22 = unit_lower_inverse(b_n22, BT // 2)
        b_nt = tl.dot(b_n21, b_t11, input_precision="ieee")
        b_t21 = tl.dot(b_t22, b_nt, input_precision="ieee")
        b_t = _lower_blocks(b_t11, b_t21, b_t22, BT // 2)
    return b_t


@triton.jit
def _row_of(b_x, i):
    """Row i of a tile, as a vector."""
    o_r = tl.arange(0, b_x.shape[0])
    return tl.sum(tl.where(o_r[:, None] == i, b_x, 0.0), 0)


@triton.jit
def _slot_of(b_x, j):
    """[N, K]: entry j on the middle axis of a tile [N, R, K]."""
    o_r = tl.arange(0, b_x.shape[1])
    return tl.sum(tl.where(o_r[None, :, None] == j, b_x, 0.0), 1)


@triton.jit
def decayed_gram(
    b_x, b_y, b_wr, b_gr, b_wc, b_gc, RB: tl.constexpr, CB: tl.constexpr, FIRST: tl.constexpr
):
    """[R, C]: sum_k x[r,k] y[c,k] 2^(clock_r - clock_c), not yet masked inside a sub-block.

    Off-diagonal sub-blocks take the earliest reading point of their rows, row ``FIRST``, as
    reference: both factors are at most 1. Diagonal ones are computed pairwise.
    """
    R: tl.constexpr = b_x.shape[0]
    C: tl.constexpr = b_y.shape[0]
    K: tl.constexpr = b_x.shape[1]
    N: tl.constexpr = R // RB
    o_r = tl.arange(0, R) // RB
    o_c = tl.arange(0, C) // CB
    b_a = tl.zeros([R, C], dtype=tl.float32)
    for i in tl.static_range(1, N):
        b_w0 = _row_of(b_wr, i * RB + FIRST)
        b_g0 = _row_of(b_gr, i * RB + FIRST)
        b_left = b_x * tl.exp2((b_wr - b_w0[None, :]) + (b_gr - b_g0[None, :]))
        b_right = b_y * tl.exp2((b_w0[None, :] - b_wc) + (b_g0[None, :] - b_gc))
        b_left = tl.where(o_r[:, None] == i, b_left, 0.0).to(b_x.dtype)
        b_right = tl.where(o_c[:, None] < i, b_right, 0.0).to(b_x.dtype)
        b_a += tl.dot(b_left, tl.trans(b_right), input_precision="ieee")
    b_x3 = tl.reshape(b_x, [N, RB, K]).to(tl.float32)
    b_y3 = tl.reshape(b_y, [N, CB, K]).to(tl.float32)
    b_wr3, b_gr3 = tl.reshape(b_wr, [N, RB, K]), tl.reshape(b_gr, [N, RB, K])
    b_wc3, b_gc3 = tl.reshape(b_wc, [N, CB, K]), tl.reshape(b_gc, [N, CB, K])
    o_j = tl.arange(0, CB)
    b_d = tl.zeros([N, RB, CB], dtype=tl.float32)
    for j in range(CB):
        b_w = b_wr3 - _slot_of(b_wc3, j)[:, None, :]
        b_g = b_gr3 - _slot_of(b_gc3, j)[:, None, :]
        b_p = b_x3 * _slot_of(b_y3, j)[:, None, :] * tl.exp2(tl.minimum(b_w + b_g, 0.0))
        b_d = tl.where(o_j[None, None, :] == j, tl.sum(b_p, 2)[:, :, None], b_d)
    b_wide = tl.broadcast_to(tl.reshape(b_d, [R, 1, CB]), [R, N, CB])
    return tl.where(o_r[:, None] == o_c[None, :], tl.reshape(b_wide, [R, C]), b_a)


@triton.jit
def _diagonal(b_p, RB: tl.constexpr, CB: tl.constexpr):
    """[N, RB, CB]: the diagonal sub-blocks of a tile [R, C]."""
    R: tl.constexpr = b_p.shape[0]
    C: tl.constexpr = b_p.shape[1]
    N: tl.constexpr = R // RB
    o_r = tl.arange(0, R) // RB
    o_c = tl.arange(0, C) // CB
    b_p = tl.where(o_r[:, None] == o_c[None, :], b_p, 0.0)
    return tl.reshape(tl.sum(tl.reshape(b_p, [R, N, CB]), 1), [N, RB, CB])


@triton.jit
def decayed_rows(
    b_p, b_y, b_wr, b_gr, b_wc, b_gc, RB: tl.constexpr, CB: tl.constexpr, FIRST: tl.constexpr
):
    """[R, K]: sum_c p[r,c] y[c,k] 2^(clock_r - clock_c), p zero where a write is not visible."""
    R: tl.constexpr = b_p.shape[0]
    K: tl.constexpr = b_y.shape[1]
    N: tl.constexpr = R // RB
    o_r = tl.arange(0, R) // RB
    o_c = tl.arange(0, b_p.shape[1]) // CB
    b_p3 = _diagonal(b_p, RB, CB)
    b_y3 = tl.reshape(b_y, [N, CB, K]).to(tl.float32)
    b_wr3, b_gr3 = tl.reshape(b_wr, [N, RB, K]), tl.reshape(b_gr, [N, RB, K])
    b_wc3, b_gc3 = tl.reshape(b_wc, [N, CB, K]), tl.reshape(b_gc, [N, CB, K])
    o_j = tl.arange(0, CB)
    b_z3 = tl.zeros([N, RB, K], dtype=tl.float32)
    for j in range(CB):
        b_w = b_wr3 - _slot_of(b_wc3, j)[:, None, :]
        b_g = b_gr3 - _slot_of(b_gc3, j)[:, None, :]
        b_pj = tl.sum(tl.where(o_j[None, None, :] == j, b_p3, 0.0), 2)
        b_z3 += (
            b_pj[:, :, None] * _slot_of(b_y3, j)[:, None, :] * tl.exp2(tl.minimum(b_w + b_g, 0.0))
        )
    b_z = tl.reshape(b_z3, [R, K])
    for i in tl.static_range(1, N):
        b_w0 = _row_of(b_wr, i * RB + FIRST)
        b_g0 = _row_of(b_gr, i * RB + FIRST)
        b_right = b_y * tl.exp2((b_w0[None, :] - b_wc) + (b_g0[None, :] - b_gc))
        b_right = tl.where(o_c[:, None] < i, b_right, 0.0).to(b_y.dtype)
        b_left = tl.where(o_r[:, None] == i, b_p, 0.0).to(b_y.dtype)
        b_part = tl.dot(b_left, b_right, input_precision="ieee")
        b_part *= tl.exp2((b_wr - b_w0[None, :]) + (b_gr - b_g0[None, :]))
        b_z += tl.where(o_r[:, None] == i, b_part, 0.0)
    return b_z


@triton.jit
def decayed_columns(
    b_p, b_x, b_wr, b_gr, b_wc, b_gc, RB: tl.constexpr, CB: tl.constexpr, FIRST: tl.constexpr
):
    """[C, K]: sum_r p[c,r] x[r,k] 2^(clock_r - clock_c), p [C, R] zero where not visible."""
    R: tl.constexpr = b_x.shape[0]
    C: tl.constexpr = b_p.shape[0]
    K: tl.constexpr = b_x.shape[1]
    N: tl.constexpr = R // RB
    o_r = tl.arange(0, R) // RB
    o_c = tl.arange(0, C) // CB
    b_p3 = _diagonal(b_p, CB, RB)
    b_x3 = tl.reshape(b_x, [N, RB, K]).to(tl.float32)
    b_wr3, b_gr3 = tl.reshape(b_wr, [N, RB, K]), tl.reshape(b_gr, [N, RB, K])
    b_wc3, b_gc3 = tl.reshape(b_wc, [N, CB, K]), tl.reshape(b_gc, [N, CB, K])
    o_j = tl.arange(0, RB)
    b_z3 = tl.zeros([N, CB, K], dtype=tl.float32)
    for j in range(RB):
        b_w = _slot_of(b_wr3, j)[:, None, :] - b_wc3
        b_g = _slot_of(b_gr3, j)[:, None, :] - b_gc3
        b_pj = tl.sum(tl.where(o_j[None, None, :] == j, b_p3, 0.0), 2)
        b_z3 += (
            b_pj[:, :, None] * _slot_of(b_x3, j)[:, None, :] * tl.exp2(tl.minimum(b_w + b_g, 0.0))
        )
    b_z = tl.reshape(b_z3, [C, K])
    for i in tl.static_range(1, N):
        b_w0 = _row_of(b_wr, i * RB + FIRST)
        b_g0 = _row_of(b_gr, i * RB + FIRST)
        b_left = b_x * tl.exp2((b_wr - b_w0[None, :]) + (b_gr - b_g0[None, :]))
        b_left = tl.where(o_r[:, None] == i, b_left, 0.0).to(b_x.dtype)
        b_right = tl.where((o_c[:, None] < i) & (o_r[None, :] == i), b_p, 0.0).to(b_x.dtype)
        b_part = tl.dot(b_right, b_left, input_precision="ieee")
        b_part *= tl.exp2((b_w0[None, :] - b_wc) + (b_g0[None, :] - b_gc))
        b_z += tl.where(o_c[:, None] < i, b_part, 0.0)
    return b_z


@triton.jit
def inner_product(x, y, i_s, SIZE: tl.constexpr):
    """The sum of all entries of state ``i_s``, int64, of x times those of y; SIZE entries each."""
    o_i = tl.arange(0, 4096)
    p_s = i_s * SIZE
    b_sum = tl.zeros([4096], dtype=tl.float32)
    for i in range(tl.cdiv(SIZE, 4096)):
        m_i = i * 4096 + o_i < SIZE
        b_x = tl.load(x + p_s + i * 4096 + o_i, mask=m_i, other=0.0).to(tl.float32)
        b_y = tl.load(y + p_s + i * 4096 + o_i, mask=m_i, other=0.0).to(tl.float32)
        b_sum += b_x * b_y
    return tl.sum(b_sum, 0)
