"""What scans go over: the sequences of a call, or segments of them that run side by side.

A segment maps the state affinely, S -> M S + L. Summaries give M and L of all segments at once;
the states between segments follow one from the other; then every segment is scanned from its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lincodegen.runtime.handover import hand_over_kernel
from lincodegen.runtime.packing import PackedChunks, chunk_count
from lincodegen.runtime.schedules import segment_chunks

# launches take what is no constexpr yet
hand_over: Any = hand_over_kernel

COLUMNS = 16
"""Columns of the state that a program hands from segment to segment."""
ROWS = 32
"""Rows of the state that it maps at a time."""


class Scans(NamedTuple):
    """The rows that the programs of a scan go over.

    Attributes:
        number: of scans, a head each.
        rows: [number + 1] rows at which scans start, None for sequences that are not packed.
        first_chunks: [number + 1] numbers of their first chunks; None likewise.
        owned: [N + 1] numbers of the first segments of sequences, each of which has one at least;
            None where scans go over whole sequences. Segments past the last have no rows.
        passed: [number, H, K, W] L and M of every segment, once there are any.
    """

    number: int
    rows: Tensor | None
    first_chunks: Tensor | None
    owned: Tensor | None = None
    passed: Tensor | None = None

    @property
    def segmented(self) -> bool:
        """Whether scans go over segments."""
        return self.owned is not None

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """What `restored` takes."""
        return tuple(x for x in self[1:] if x is not None) if self.segmented else ()

    def opened(self, h0: Tensor, width: int) -> Tensor:
        """The states [number, H, K, W] that summaries start from: zeros, then what gives M.

        The W - V further columns are the identity, or one of ones where M is a diagonal.
        """
        heads, keys, values = h0.shape[1:]
        begun = h0.new_zeros(self.number, heads, keys, width)
        if width - values == 1:
            begun[..., values] = 1
        else:
            begun[..., values:].diagonal(dim1=-2, dim2=-1).fill_(1)
        return begun

    def forward(self, h0: Tensor, passed: Tensor) -> tuple[Scans, Tensor]:
        """With L and M [number, H, K, W]: the states before all segments [number, H, K, V]."""
        return self._replace(passed=passed), self._handed(h0, passed, passed, reverse=False)

    def backward(self, dht: Tensor, passed: Tensor) -> Tensor:
        """The cotangents after all segments, from what each hands back of zeros."""
        return self._handed(dht, passed, self.passed, reverse=True)

    def _handed(
        self, first: Tensor, local: Tensor, maps: Tensor | None, *, reverse: bool
    ) -> Tensor:
        heads, keys, values = first.shape[1:]
        if maps is None:
            raise RuntimeError("segments without summaries")
        handed = first.new_zeros(self.number, heads, keys, values)
        grid = (first.shape[0] * heads * -(-values // COLUMNS),)
        hand_over[grid](
            first,
            local,
            maps,
            handed,
            self.owned,
            H=heads,
            K=keys,
            V=values,
            W=maps.shape[3],
            L=local.shape[3],
            BK=max(16, 1 << (keys - 1).bit_length()),
            BV=COLUMNS,
            BJ=ROWS,
            REVERSE=reverse,
        )
        return handed

    def left(self, ht: Tensor) -> Tensor:
        """The states after sequences of those after scans."""
        return ht if self.owned is None else ht.index_select(0, self.owned[1:] - 1)

    def first(self, dh0: Tensor) -> Tensor:
        """The cotangents of the states before sequences, of those before scans."""
        return dh0 if self.owned is None else dh0.index_select(0, self.owned[:-1])


def whole(sequences: int, packed: PackedChunks | None) -> Scans:
    """Scans over whole sequences."""
    if packed is None:
        return Scans(sequences, None, None)
    return Scans(sequences, packed.cu_seqlens, packed.first)


def restored(kept: Sequence[Tensor], sequences: int, packed: PackedChunks | None) -> Scans:
    """The scans of a forward in its backward."""
    if not kept:
        return whole(sequences, packed)
    rows, first_chunks, owned, passed = kept
    return Scans(rows.shape[0] - 1, rows, first_chunks, owned, passed)


def cut(x: Tensor, state: Tensor, chunk_size: int, packed: PackedChunks | None) -> Scans:
    """Scans over sequences, or over segments of them if the schedule of the call says so.

    Segments are of one number of chunks, so that a sequence is cut alike wherever it lies.

    Args:
        x: [B, T, ...].
        state: [N, H, ...].
        chunk_size: tokens a chunk.
        packed: the chunks of packed sequences.
    """
    batch, tokens = x.shape[:2]
    sequences, heads = state.shape[:2]
    chunks = chunk_count(batch, tokens, chunk_size, packed)
    size = segment_chunks(sequences * heads, chunks // max(sequences, 1), x.device)
    if size is None:
        return whole(sequences, packed)
    if packed is None:
        each = chunks // max(batch, 1)
        number = torch.arange(batch + 1, device=x.device)
        starts, first, most = number * tokens, number * each, batch * max(1, -(-each // size))
    else:
        starts, first, most = packed.cu_seqlens, packed.first, chunks // size + sequences
    owned = torch.nn.functional.pad(
        ((first.diff() + (size - 1)) // size).clamp(1).cumsum(0), (1, 0)
    )
    number = torch.arange(most, device=x.device)
    sequence = torch.searchsorted(owned[1:], number, right=True).clamp(max=sequences - 1)
    own = (number - owned[sequence]) * size
    rows = torch.minimum(starts[sequence] + own * chunk_size, starts[sequence + 1])
    rows = torch.cat((rows, starts[-1:]))
    first_chunks = (first[sequence] + own).to(torch.int32)
    return Scans(most, rows, first_chunks, owned)
