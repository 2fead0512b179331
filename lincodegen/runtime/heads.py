"""Heads: tensors with fewer of them stand for repeated ones, and their gradients are sums.

Head h of a tensor with Hx of H heads is its head h // (H / Hx). Inputs are [B, T, Hx, ...],
parameters are held as [1, 1, Hx, ...], states are [B, Hx, ...].
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar, cast

from torch import Tensor

TOKEN_AXIS = 2
STATE_AXIS = 1

Result = TypeVar("Result")


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


def head_groups(counts: Iterable[int]) -> tuple[int, ...]:
    """The axes that stand for the heads of tensors which broadcast; their product is all heads.

    4 and 8 heads are axes of 4 and 2: the tensor with 4 has [4, 1]. One head needs no axis of its
    own. Where a count does not divide the next (2 and 3 of 6), there is one axis of all.
    """
    groups: list[int] = []
    most = 1
    different = sorted({*counts} - {1})
    for count in different:
        if count % most:
            return (math.lcm(*different),)
        groups.append(count // most)
        most = count
    return tuple(groups)


def grouped(x: Tensor, groups: tuple[int, ...], whole: bool) -> Tensor:
    """A contiguous tensor with its heads [*groups], those behind its own 1; a view.

    Args:
        x: [B, T, Hx, ...].
        groups: of ``head_groups``.
        whole: Whether every axis has its size, without memory of its own.
    """
    if len(groups) == 1 and x.shape[TOKEN_AXIS] > 1:
        return repeat_heads(x, groups[0])
    lead, rest = x.shape[:TOKEN_AXIS], x.shape[TOKEN_AXIS + 1 :]
    if len(groups) > 1:
        left, axes = x.shape[TOKEN_AXIS], []
        for size in groups:
            axes.append(size if left > 1 else 1)
            left //= size
        x = x.view(*lead, *axes, *rest)
    return x.expand(*lead, *(groups or (1,)), *rest) if whole else x


def ungrouped(x: Result, groups: tuple[int, ...]) -> Result:
    """A result of grouped tensors with one axis of heads; one without that axis as it is."""
    if not isinstance(x, Tensor) or x.dim() < TOKEN_AXIS + len(groups):
        return x
    return cast("Result", x.flatten(TOKEN_AXIS, TOKEN_AXIS + len(groups) - 1))


def reduced(dx: Tensor, x: Tensor) -> Tensor:
    """A gradient [B, T, H, ...] summed to the tensor's own heads, batch and tokens."""
    for axis in (0, 1):
        if x.shape[axis] == 1 and dx.shape[axis] != 1:
            dx = dx.sum(axis, keepdim=True)
    return sum_heads(dx, x.shape[TOKEN_AXIS])
