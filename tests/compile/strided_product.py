"""A matrix product whose loads can be pipelined only if the row stride is known to be aligned."""

import triton
import triton.language as tl


@triton.jit
def product_kernel(a, b, c, stride, K, BM: tl.constexpr, BK: tl.constexpr):
    o_m, o_k = tl.arange(0, BM), tl.arange(0, BK)
    b_c = tl.zeros([BM, BM], tl.float32)
    for i_k in range(0, K, BK):
        b_a = tl.load(a + o_m[:, None] * stride + i_k + o_k[None, :])
        b_b = tl.load(b + o_m[None, :] * stride + i_k + o_k[:, None])
        b_c = tl.dot(b_a, b_b, b_c)
    tl.store(c + o_m[:, None] * BM + o_m[None, :], b_c)
