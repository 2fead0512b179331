"""Tiles of rows [BT, BD] that a scan loads of [B, T, H, D], through a pointer or a descriptor.

The launcher settles which: a kernel is compiled for the types of its arguments. Both ways give
the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.constexpr_function
def element_type(x):
    """The type of the entries behind a pointer or a descriptor."""
    return x.dtype if isinstance(x, tl.tensor_descriptor) else x.dtype.element_ty


@triton.jit
def place_in_batch(i_b, i_0, cu_seqlens):
    """Batch entry and token of it at which sequence i_b starts, whose first row is i_0."""
    if cu_seqlens is None:
        i_s = 0
    else:
        i_b = 0
        i_s = i_0.to(tl.int32)
    return i_b, i_s


@triton.jit
def load_rows(x, row, m_row, o_c, m_c, size, at, cu_seqlens):
    """Channels o_c of rows of a chunk, zeros where a mask is false.

    x is a pointer to [rows, ``size``], or a descriptor of [B, H, T, ``size``] with blocks
    [1, 1, BT, BD], which ``at`` places: batch entry, head, token, channel. The hardware reads
    zeros beyond the last token and the last channel; packed sequences have neighbours there.
    """
    if isinstance(x, tl.tensor_descriptor):
        b_x = tl.reshape(x.load([at[0], at[1], at[2], at[3]]), [x.block_shape[2], x.block_shape[3]])
        if cu_seqlens is not None:
            # a product with the mask would keep what is not finite
            b_x = tl.where(m_row[:, None], b_x, 0.0)
    else:
        b_x = tl.load(
            x + row[:, None] * size + o_c[None, :], mask=m_row[:, None] & m_c[None, :], other=0.0
        )
    return b_x
