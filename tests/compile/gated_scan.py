"""A chunked gated linear attention forward, small enough to compile in a second or two."""

import triton
import triton.language as tl


@triton.jit
def scan_fwd_kernel(  # noqa: PLR0913
    q, k, v, g, o, ht, scale, T, H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BT: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    i_v, i_bh = tl.program_id(0), tl.program_id(1)
    i_b, i_h = i_bh // H, i_bh % H
    o_i = tl.arange(0, BT)
    o_k = tl.arange(0, K)
    o_v = i_v * BV + tl.arange(0, BV)
    m_causal = o_i[:, None] >= o_i[None, :]
    b_h = tl.zeros([K, BV], tl.float32)
    for i_t in range(tl.cdiv(T, BT)):
        base = (i_b.to(tl.int64) * T + i_t * BT) * H + i_h
        m_t = i_t * BT + o_i < T
        p_k = base * K + o_i[:, None] * (H * K) + o_k[None, :]
        p_v = base * V + o_i[:, None] * (H * V) + o_v[None, :]
        b_q = tl.load(q + p_k, mask=m_t[:, None], other=0.0)
        b_k = tl.load(k + p_k, mask=m_t[:, None], other=0.0)
        b_v = tl.load(v + p_v, mask=m_t[:, None], other=0.0)
        b_g = tl.load(g + base + o_i * H, mask=m_t, other=0.0).to(tl.float32)
        b_G = tl.cumsum(b_g, 0)
        b_Gn = tl.sum(b_g, 0)
        b_P = tl.dot(b_q, tl.trans(b_k))
        b_P = tl.where(m_causal, b_P * tl.exp2(b_G[:, None] - b_G[None, :]), 0.0)
        b_o = tl.dot(b_q, b_h.to(b_q.dtype)) * tl.exp2(b_G)[:, None]
        b_o += tl.dot(b_P.to(b_v.dtype), b_v)
        tl.store(o + p_v, (b_o * scale).to(o.dtype.element_ty), mask=m_t[:, None])
        b_w = (b_v * tl.exp2(b_Gn - b_G)[:, None]).to(b_v.dtype)
        b_h = b_h * tl.exp2(b_Gn) + tl.dot(tl.trans(b_k), b_w)
    if ht is not None:
        p_h = i_bh.to(tl.int64) * K * V + o_k[:, None] * V + o_v[None, :]
        tl.store(ht + p_h, b_h)
