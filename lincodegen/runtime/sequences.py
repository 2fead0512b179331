"""Where a program's tokens lie: [B, T] sequences of one length, or packed ones of any.

Packed sequences are rows ``cu_seqlens[n]`` to ``cu_seqlens[n + 1]`` of one batch entry. Without
them ``cu_seqlens`` is None, at compile time.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def place_of_chunk(i_n, T, cu_seqlens, places, BT: tl.constexpr):
    """Of a chunk among all: its sequence's first row and tokens, its number in the sequence.

    ``places`` [chunks, 2] are sequence and number of the chunks of packed sequences; chunks past
    the last one have numbers past the end of a sequence, so that all their rows are masked.
    """
    if cu_seqlens is None:
        NT = tl.cdiv(T, BT)
        i_t = i_n % NT
        i_0 = (i_n // NT).to(tl.int64) * T
    else:
        i_b = tl.load(places + 2 * i_n)
        i_t = tl.load(places + 2 * i_n + 1)
        i_0 = tl.load(cu_seqlens + i_b).to(tl.int64)
        T = (tl.load(cu_seqlens + i_b + 1) - i_0).to(tl.int32)
    return i_0, T, i_t


@triton.jit
def place_of_sequence(i_b, T, cu_seqlens, first_chunks, BT: tl.constexpr):
    """Of a sequence: its first row, its tokens, and the number of its first chunk among all."""
    if cu_seqlens is None:
        i_0 = i_b.to(tl.int64) * T
        i_n = i_b * tl.cdiv(T, BT)
    else:
        i_0 = tl.load(cu_seqlens + i_b).to(tl.int64)
        T = (tl.load(cu_seqlens + i_b + 1) - i_0).to(tl.int32)
        i_n = tl.load(first_chunks + i_b)
    return i_0, T, i_n


@triton.jit
def sequence_of_chunk(i_n, T, cu_seqlens, places, BT: tl.constexpr):
    """The number of the sequence that a chunk is of, arguments as in `place_of_chunk`."""
    return i_n // tl.cdiv(T, BT) if cu_seqlens is None else tl.load(places + 2 * i_n)
