"""Packed sequences: the host's side of ``cu_seqlens``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class PackedChunks(NamedTuple):
    """Chunks of all packed sequences, numbered one after the other.

    ``cu_seqlens`` [N + 1] are the rows at which sequences start, ``first`` [N + 1] the chunks,
    ``places`` [count, 2] sequence and number in it of every chunk; int32 but for cu_seqlens.
    """

    cu_seqlens: Tensor
    first: Tensor
    places: Tensor


class Packing(NamedTuple):
    """Where packed sequences start and end; ``lengths`` only where the host knows them."""

    cu_seqlens: Tensor
    lengths: tuple[int, ...] | None

    @property
    def sequences(self) -> int:
        """How many sequences."""
        return self.cu_seqlens.shape[0] - 1

    def host_lengths(self) -> tuple[int, ...]:
        """The lengths on the host; waits for the device if it alone knows them."""
        if self.lengths is not None:
            return self.lengths
        return lengths_of(self.cu_seqlens.tolist())

    def chunks(self, tokens: int, size: int) -> PackedChunks:
        """The chunks of ``size`` tokens, without waiting for the device.

        Where the host does not know the lengths there are as many places as could be needed,
        tokens // size + N; those past the last chunk lie past the end of the first sequence.
        """
        lengths = self.cu_seqlens.diff()
        first = torch.nn.functional.pad(((lengths + (size - 1)) // size).cumsum(0), (1, 0))
        most = tokens // size + self.sequences
        if self.lengths is not None:
            most = sum(-(-n // size) for n in self.lengths)
        number = torch.arange(most, device=first.device)
        sequence = torch.searchsorted(first[1:], number, right=True)
        past = sequence == self.sequences
        sequence = sequence.masked_fill(past, 0)
        own = (number - first[sequence]).masked_fill(past, tokens // size + 1)
        places = torch.stack((sequence, own), 1).to(torch.int32)
        return PackedChunks(self.cu_seqlens, first.to(torch.int32), places.contiguous())


def lengths_of(offsets: Sequence[int]) -> tuple[int, ...]:
    """The differences of neighbours."""
    return tuple(b - a for a, b in pairwise(offsets))


def read_packing(
    op: str,
    offsets: tuple[Tensor | None, Tensor | None],
    leading: tuple[int, int],
    device: torch.device,
) -> Packing | None:
    """The packing that ``cu_seqlens`` and ``cu_seqlens_cpu`` describe, None without either.

    Values are looked at on the host alone: nothing waits for the device.

    Args:
        op: the op's name, for messages.
        offsets: cu_seqlens and cu_seqlens_cpu.
        leading: B and T.
        device: that of the inputs.

    Raises:
        TypeError: one of them is no tensor.
        ValueError: shape, dtype, device, B, or values that the host knows do not fit.
    """
    given = {
        n: x
        for n, x in zip(("cu_seqlens", "cu_seqlens_cpu"), offsets, strict=True)
        if x is not None
    }
    if not given:
        return None
    for name, x in given.items():
        _check_offsets(op, name, x)
    if leading[0] != 1:
        raise ValueError(
            f"{op}: B = {leading[0]} with cu_seqlens; expected: packed sequences in B = 1"
        )
    host = next((n for n in reversed(given) if given[n].device.type == "cpu"), None)
    lengths = None
    if host is not None:
        lengths = checked_lengths(op, host, given[host].tolist(), leading[1])
    first = next(iter(given.values()))
    if len({x.shape[0] for x in given.values()}) > 1:
        sizes = " and ".join(f"{n} {x.shape[0]}" for n, x in given.items())
        raise ValueError(f"{op}: entries of {sizes}; expected: as many in both")
    return Packing(first.to(device, non_blocking=True).contiguous(), lengths)


def _check_offsets(op: str, name: str, x: object) -> None:
    wanted = "a tensor [N + 1] in int32 or int64"
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {name} is {type(x).__name__}; expected: {wanted}")
    if x.dim() != 1 or not x.numel():
        raise ValueError(f"{op}: {name} has the shape {list(x.shape)}; expected: {wanted}")
    if x.dtype not in (torch.int32, torch.int64):
        found = str(x.dtype).removeprefix("torch.")
        raise ValueError(f"{op}: {name} has {found}; expected: {wanted}")
    if name.endswith("_cpu") and x.device.type != "cpu":
        raise ValueError(f"{op}: {name} is on {x.device}; expected: the CPU")


def checked_lengths(op: str, name: str, offsets: list[int], tokens: int) -> tuple[int, ...]:
    """The lengths of sequences with the offsets ``name``.

    Raises:
        ValueError: the offsets do not start at 0, do not end at ``tokens``, or fall.
    """
    lengths = lengths_of(offsets)
    found = ""
    if offsets[0] != 0:
        found = f"{name}[0] is {offsets[0]}"
    elif min(lengths, default=0) < 0:
        i = next(i for i, n in enumerate(lengths) if n < 0)
        found = f"{name}[{i + 1}] is {offsets[i + 1]} after {offsets[i]}"
    elif offsets[-1] != tokens:
        found = f"{name}[{len(lengths)}] is {offsets[-1]}"
    if found:
        raise ValueError(
            f"{op}: {found}; expected: offsets that start at 0, never fall and end at T = {tokens}"
        )
    return lengths


def chunk_count(batch: int, tokens: int, size: int, packed: PackedChunks | None) -> int:
    """Chunks of all sequences."""
    return batch * -(-tokens // size) if packed is None else packed.places.shape[0]


def numbered(packed: PackedChunks | None) -> tuple[Tensor | None, Tensor | None]:
    """cu_seqlens and places as kernels of one chunk take them: None without packing."""
    if packed is None:
        return None, None
    return packed.cu_seqlens, packed.places
