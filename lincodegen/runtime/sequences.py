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
def first_border(i_b, T, first_chunks, BT: tl.constexpr, NB: tl.constexpr):
    """The number of a sequence's first border among all: one is kept every NB of its chunks.

    It has one more than whole borders fit, so that numbers of neighbours are apart.
    """
    i_n = i_b * tl.cdiv(T, BT) if first_chunks is None else tl.load(first_chunks + i_b)
    return i_n // NB + i_b


@triton.jit
def sequence_of_border(i_s, N, T, first_chunks, BT: tl.constexpr, NB: tl.constexpr):
    """The last of N sequences whose first border has no number beyond ``i_s``."""
    low, high = 0, N
    while high - low > 1:
        middle = (low + high) // 2
        if first_border(middle, T, first_chunks, BT, NB) <= i_s:
            low = middle
        else:
            high = middle
    return low


@triton.jit
def place_of_border(i_s, i_b, T, cu_seqlens, first_chunks, BT: tl.constexpr, NB: tl.constexpr):
    """Of border ``i_s`` of sequence ``i_b``: the sequence's first row and tokens, and a chunk.

    That is the first after the border before, by its number in the sequence; past the last one
    if there is none.
    """
    i_c = (i_s - first_border(i_b, T, first_chunks, BT, NB)) * NB
    i_0, T, _ = place_of_sequence(i_b, T, cu_seqlens, first_chunks, BT)
    return i_0, T, i_c
