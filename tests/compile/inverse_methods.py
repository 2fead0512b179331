"""The inverse that generated kernels call, by every method, as a kernel of its own."""

import triton
import triton.language as tl

from lincodegen.runtime.tiles import unit_lower_inverse


@triton.jit
def inverse_kernel(n, t, BT: tl.constexpr, METHOD: tl.constexpr):
    """T = (I - N)^-1, one [BT, BT] tile a program."""
    o_i = tl.arange(0, BT)
    p_n = tl.program_id(0).to(tl.int64) * BT * BT + o_i[:, None] * BT + o_i[None, :]
    tl.store(t + p_n, unit_lower_inverse(tl.load(n + p_n), BT, METHOD))
