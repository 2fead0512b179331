"""How a state is handed from segment to segment of a sequence."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def hand_over_kernel(
    first,
    local,
    maps,
    handed,
    owned,
    H: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    W: tl.constexpr,
    L: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    BJ: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """Before every segment of a sequence S, then S <- M S + L; backwards with M transposed.

    ``first`` [N, H, K, V] is S before the first segment, ``local`` [number, H, K, L] has L in its
    first V columns, ``maps`` [number, H, K, W] has M behind them: K columns, or one, a diagonal.
    """
    i_v, i_bh = tl.program_id(0) % tl.cdiv(V, BV), tl.program_id(0) // tl.cdiv(V, BV)
    i_n, i_h = i_bh // H, i_bh % H
    o_k = tl.arange(0, BK)
    o_v = i_v * BV + tl.arange(0, BV)
    m_k = o_k < K
    m_kv = m_k[:, None] & (o_v < V)[None, :]
    b_h = tl.load(
        first + i_bh.to(tl.int64) * (K * V) + o_k[:, None] * V + o_v[None, :], mask=m_kv, other=0.0
    )
    i_0 = tl.load(owned + i_n).to(tl.int32)
    i_1 = tl.load(owned + i_n + 1).to(tl.int32)
    for i in range(i_1 - i_0):
        i_s = ((i_1 - 1 - i if REVERSE else i_0 + i) * H + i_h).to(tl.int64)
        tl.store(handed + i_s * (K * V) + o_k[:, None] * V + o_v[None, :], b_h, mask=m_kv)
        b_l = tl.load(local + i_s * (K * L) + o_k[:, None] * L + o_v[None, :], mask=m_kv, other=0.0)
        p_m = maps + i_s * (K * W) + V
        if W - V == 1:
            b_m = tl.load(p_m + o_k * W, mask=m_k, other=0.0)
            b_h = b_m[:, None] * b_h + b_l
        else:
            # a tile of rows of S at a time, read again from what all threads have just written
            tl.debug_barrier()
            b_h = b_l
            for i_j in range(tl.cdiv(K, BJ)):
                o_j = i_j * BJ + tl.arange(0, BJ)
                m_j = o_j < K
                b_s = tl.load(
                    handed + i_s * (K * V) + o_j[:, None] * V + o_v[None, :],
                    mask=m_j[:, None] & (o_v < V)[None, :],
                    other=0.0,
                )
                # M, or its transpose by strides: no computed tile is turned
                p_j = p_m + (
                    o_j[None, :] * W + o_k[:, None] if REVERSE else o_k[:, None] * W + o_j[None, :]
                )
                b_m = tl.load(p_j, mask=m_k[:, None] & m_j[None, :], other=0.0)
                b_h += tl.dot(b_m, b_s, input_precision="ieee")
