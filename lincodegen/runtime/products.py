"""Matrix products with scaled rows: the launcher settles where the scale is applied.

SCALES is one of `lincodegen.config.SCALES`. An operand that goes into a product as it was loaded
need not pass through registers; a product that is not scaled may be added up where it is.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def scaled_dot(b_a, b_b, b_scale, SCALES: tl.constexpr, PRECISION: tl.constexpr):
    """[R, C]: diag(scale) a b, of a [R, D] as loaded, b [D, C] and the scales [R] of rows."""
    if SCALES == "loaded":
        b_left = (b_a * b_scale[:, None]).to(b_a.dtype)
        b_product = tl.dot(b_left, b_b, input_precision=PRECISION)
    else:
        b_product = b_scale[:, None] * tl.dot(b_a, b_b, input_precision=PRECISION)
    return b_product


@triton.jit
def dot_of_scaled(b_a, b_b, b_scale, SCALES: tl.constexpr, PRECISION: tl.constexpr):
    """[R, C]: a diag(scale) b, of a [R, D] as loaded, b [D, C] and the scales [D]."""
    if SCALES == "loaded":
        b_left, b_right = (b_a * b_scale[None, :]).to(b_a.dtype), b_b.to(b_a.dtype)
    else:
        b_left, b_right = b_a, (b_scale[:, None] * b_b).to(b_a.dtype)
    return tl.dot(b_left, b_right, input_precision=PRECISION)


@triton.jit
def decayed_dot(b_a, b_b, m_in, b_later, b_earlier, ORDER: tl.constexpr, PRECISION: tl.constexpr):
    """[R, C]: a b times the decays between rows and columns, zero where a mask is false.

    Clocks come in two parts, of the later of row and column and of the earlier one, as [R, 1] or
    [1, C]. ORDER is one of `lincodegen.config.ORDERS`.
    """
    if ORDER == "decay":
        b_gap = (b_later[0] - b_earlier[0]) + (b_later[1] - b_earlier[1])
        b_decay = tl.where(m_in, tl.exp2(b_gap), 0.0)
        b_product = tl.dot(b_a, b_b, input_precision=PRECISION)
    else:
        b_product = tl.dot(b_a, b_b, input_precision=PRECISION)
        b_gap = (b_later[0] - b_earlier[0]) + (b_later[1] - b_earlier[1])
        b_decay = tl.where(m_in, tl.exp2(b_gap), 0.0)
    return b_product * b_decay
