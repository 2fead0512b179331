"""(I - N)^-1 of a strictly lower triangular tile, as a kernel can hold it without spilling.

Diagonal blocks of 16 are built up from pairs by three masked merges; two inverses T11 and T22 of
neighbouring blocks merge to [[T11, 0], [T22 N21 T11, T22]]. Every step is block substitution, so
nothing grows that is not in the inverse itself; no loop, hence few barriers. Quadrants are cut out
and put together by split and join, in registers, so that no dot is larger than half the tile: a
64 x 64 x 64 dot in float32 spills kilobytes, one of 32 x 32 x 32 nothing.
"""

import triton
import triton.language as tl


@triton.jit
def quadrants(b_n, BC: tl.constexpr):
    """N11, N21, N22 of [2 BC, 2 BC]; N12 is zero."""
    b_cols = tl.permute(tl.reshape(b_n, [2, BC, 2, BC]), [1, 3, 0, 2])
    b_left, b_right = tl.split(b_cols)
    b_n11, b_n21 = tl.split(b_left)
    _, b_n22 = tl.split(b_right)
    return b_n11, b_n21, b_n22


@triton.jit
def lower_blocks(b_t11, b_t21, b_t22, BC: tl.constexpr):
    """[[T11, 0], [T21, T22]] of [BC, BC] blocks."""
    b_left = tl.join(b_t11, b_t21)
    b_right = tl.join(tl.zeros_like(b_t22), b_t22)
    return tl.reshape(tl.permute(tl.join(b_left, b_right), [2, 0, 3, 1]), [2 * BC, 2 * BC])


@triton.jit
def unit_lower_inverse_16(b_n):
    """(I - N)^-1 of one [16, 16] block, by merging blocks of 2, 4 and 8."""
    o_r = tl.arange(0, 16)[:, None]
    o_c = tl.arange(0, 16)[None, :]
    b_t = tl.where(o_r == o_c, 1.0, 0.0) + tl.where(o_r // 2 == o_c // 2, b_n, 0.0)
    for i in tl.static_range(1, 4):
        # the lower left quadrants of the diagonal blocks of 4, 8, 16
        m_n21 = (o_r >> (i + 1) == o_c >> (i + 1)) & (o_r >> i != o_c >> i)
        b_tn = tl.dot(b_t, tl.where(m_n21, b_n, 0.0), input_precision="ieee")
        b_t += tl.dot(b_tn, b_t, input_precision="ieee")
    return b_t


@triton.jit
def unit_lower_inverse(b_n, BT: tl.constexpr):
    """(I - N)^-1 for strictly lower triangular N of [BT, BT]; BT is 16, 32 or 64."""
    if BT == 16:
        b_t = unit_lower_inverse_16(b_n)
    else:
        b_n11, b_n21, b_n22 = quadrants(b_n, BT // 2)
        b_t11 = unit_lower_inverse(b_n11, BT // 2)
        b_t22 = unit_lower_inverse(b_n22, BT // 2)
        b_tn = tl.dot(b_t22, b_n21, input_precision="ieee")
        b_t21 = tl.dot(b_tn, b_t11, input_precision="ieee")
        b_t = lower_blocks(b_t11, b_t21, b_t22, BT // 2)
    return b_t


@triton.jit
def inverse_kernel(n, t, BT: tl.constexpr):
    """T = (I - N)^-1, one [BT, BT] tile a program."""
    o_i = tl.arange(0, BT)
    p_n = tl.program_id(0).to(tl.int64) * BT * BT + o_i[:, None] * BT + o_i[None, :]
    tl.store(t + p_n, unit_lower_inverse(tl.load(n + p_n), BT).to(t.dtype.element_ty))


@triton.jit
def prep_kernel(k, beta, t, T, H: tl.constexpr, K: tl.constexpr, BT: tl.constexpr):
    """T = (I + tril(beta K K^T, -1))^-1 of one chunk."""
    i_t, i_bh = tl.program_id(0), tl.program_id(1)
    i_b, i_h = i_bh // H, i_bh % H
    o_i = tl.arange(0, BT)
    o_k = tl.arange(0, K)
    m_t = i_t * BT + o_i < T
    base = (i_b.to(tl.int64) * T + i_t * BT) * H + i_h
    p_k = base * K + o_i[:, None] * (H * K) + o_k[None, :]
    b_k = tl.load(k + p_k, mask=m_t[:, None], other=0.0)
    b_beta = tl.load(beta + base + o_i * H, mask=m_t, other=0.0).to(tl.float32)
    b_n = -b_beta[:, None] * tl.dot(b_k, tl.trans(b_k))
    b_t = unit_lower_inverse(tl.where(o_i[:, None] > o_i[None, :], b_n, 0.0), BT)
    p_t = (i_bh.to(tl.int64) * tl.cdiv(T, BT) + i_t) * (BT * BT)
    tl.store(t + p_t + o_i[:, None] * BT + o_i[None, :], b_t.to(t.dtype.element_ty))
