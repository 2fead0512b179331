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
def load_rows(x, row, m_row, o_c, m_c, size, at):
    """Channels ``o_c`` of the rows of a chunk, zeros where a mask is false.

    x is a pointer to [rows, ``size``], or a descriptor of [B, H, T, ``size``] with blocks
    [1, 1, BT, BD]; ``at`` is where the block starts: batch entry, head, token, channel. The
    hardware reads zeros beyond the last token and the last channel, which is what masks are for.
    """
    if isinstance(x, tl.tensor_descriptor):
        b_x = x.load([at[0], at[1], at[2], at[3]])
        b_x = tl.reshape(b_x, [x.block_shape[2], x.block_shape[3]])
    else:
        b_x = tl.load(
            x + row[:, None] * size + o_c[None, :], mask=m_row[:, None] & m_c[None, :], other=0.0
        )
    return b_x
