"""Tensor descriptors of rows, built by the host for a launch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from triton.tools.tensor_descriptor import TensorDescriptor

from lincodegen.runtime.defaults import target_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_ALIGNED = 16
"""Bytes that the base and every stride of a descriptor are a multiple of."""


def rows_of(
    x: Tensor, tile: str, config: Mapping[str, int], chunk_size: int, cu_seqlens: Tensor | None
) -> Tensor | TensorDescriptor:
    """What a scan loads tiles of rows from: a descriptor where its configuration asks for one.

    It is the tensor itself where the device or the layout has no descriptors, and for packed
    sequences and segments: what a descriptor reads beyond their ends are the rows of neighbours,
    and a mask on what was read costs more registers than descriptors save.

    Args:
        x: [B, T, H, D], contiguous.
        tile: the name of D's tile, ``BK`` or ``BV``.
        config: of the kernel.
        chunk_size: rows of a tile.
        cu_seqlens: rows at which packed sequences or segments start, else None.
    """
    if not config.get("descriptors") or cu_seqlens is not None or not _describable(x):
        return x
    batch, tokens, heads, size = x.shape
    strides = [tokens * heads * size, size, heads * size, 1]
    block = [1, 1, chunk_size, config[tile]]
    return TensorDescriptor(x, [batch, heads, tokens, size], strides, block)


def _describable(x: Tensor) -> bool:
    """Whether the device has descriptors and those of a tensor's rows are aligned."""
    row = x.shape[-1] * x.element_size()
    aligned = x.data_ptr() % _ALIGNED == 0 and row % _ALIGNED == 0
    return aligned and x.numel() > 0 and has_descriptors(x.device)


@cache
def has_descriptors(device: torch.device) -> bool:
    """Whether kernels on a device load through descriptors; on a CPU they are interpreted."""
    target = target_of(device)
    return device.type == "cpu" if target is None else target.descriptors
