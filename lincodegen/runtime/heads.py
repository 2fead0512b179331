"""Heads: tensors with fewer of them stand for repeated ones, and their gradients are sums.

Head h of a tensor with Hx of H heads is its head h // (H / Hx). Inputs are [B, T, Hx, ...],
parameters are held as [1, 1, Hx, ...], states are [B, Hx, ...].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TOKEN_AXIS = 2
STATE_AXIS = 1


def repeat_heads(x: Tensor, heads: int, axis: int = TOKEN_AXIS) -> Tensor:
    """Each head of an axis as many times in a row as make ``heads`` of them."""
    own = x.shape[axis]
    return x if own == heads else x.repeat_interleave(heads // own, axis)


def sum_heads(dx: Tensor, heads: int, axis: int = TOKEN_AXIS) -> Tensor:
    """The adjoint of ``repeat_heads`` of a tensor with ``heads`` heads, in a fixed order."""
    own = dx.shape[axis]
    return dx if own == heads else dx.unflatten(axis, (heads, own // heads)).sum(axis + 1)


def take_heads(x: Tensor, heads: int, axis: int = TOKEN_AXIS) -> Tensor:
    """One head out of each group of equal ones."""
    own = x.shape[axis]
    return x if own == heads else x.unflatten(axis, (heads, own // heads)).select(axis + 1, 0)


def place_heads(dx: Tensor, heads: int, axis: int = TOKEN_AXIS) -> Tensor:
    """The adjoint of ``take_heads`` of a tensor with ``heads`` heads, contiguous."""
    own = dx.shape[axis]
    if own == heads:
        return dx.contiguous()
    shape = list(dx.shape)
    shape.insert(axis + 1, heads // own)
    spread = dx.new_zeros(shape)
    spread.select(axis + 1, 0).copy_(dx)
    return spread.flatten(axis, axis + 1)


def reduced(dx: Tensor, x: Tensor) -> Tensor:
    """A gradient [B, T, H, ...] summed to the tensor's own heads, batch and tokens."""
    for axis in (0, 1):
        if x.shape[axis] == 1 and dx.shape[axis] != 1:
            dx = dx.sum(axis, keepdim=True)
    return sum_heads(dx, x.shape[TOKEN_AXIS])
