"""Heads computed some at a time, so that what a chunked form makes on a CPU stays in its caches.

A tensor of many megabytes is new memory each time it is made, and every page of it is a fault:
for 32 heads of 2048 tokens that takes longer than the products. Heads do not depend on each other,
and each has the same bits in any block; sums over tokens, for parameters, have theirs rounded anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from lincodegen.runtime.heads import STATE_AXIS, TOKEN_AXIS
from lincodegen.runtime.separate import Tensors, joined, parted, shares
from lincodegen.runtime.tuned import torch_config

if TYPE_CHECKING:
    from torch import Tensor

    from lincodegen.runtime.call import Call

Function: TypeAlias = Callable[..., Any]

MOST_ELEMENTS = 1 << 21
"""Of the largest input of a block with all its heads, where no table has a number; 8 MB."""


def count_of(call: Call, tensors: Tensors) -> int:
    """Into how many blocks the heads of a call go: the fewest that are small enough."""
    own = torch_config()
    most = MOST_ELEMENTS if own is None else own.block_elements
    each = max([x.numel() // x.shape[TOKEN_AXIS] for x in tensors])
    total = each * max(call.heads.values())
    if total <= most:
        return 1
    heads = math.gcd(*call.heads.values())
    counts = (n for n in range(1, heads + 1) if heads % n == 0)
    return next((n for n in counts if total <= n * most), heads)


def each_forward(
    forward: Function, call: Call, *arguments: object
) -> tuple[Tensors, Tensors, tuple[Tensors, ...]]:
    """Outputs and final states of all heads, and what each block keeps."""
    tensors, states, constants = parted(call, arguments, len(call.signature.states))
    count = count_of(call, tensors)
    if count == 1:
        return forward(call, *arguments)
    rows = zip(_blocks(tensors, count, TOKEN_AXIS), _blocks(states, count, STATE_AXIS), strict=True)
    found = [forward(call, *own, *entered, *constants) for own, entered in rows]
    outputs, finals, kept = zip(*found, strict=True)
    return (
        joined(outputs, TOKEN_AXIS),
        joined(finals, STATE_AXIS),
        tuple(x for k in kept for x in k),
    )


def each_backward(
    backward: Function, call: Call, kept: Sequence[Tensors], *arguments: object
) -> tuple[tuple[Tensor | None, ...], Tensors]:
    """Gradients of tensors and states of all heads."""
    tensors, _, rest = parted(call, arguments, 0)
    count = count_of(call, tensors)
    if count == 1:
        return backward(call, kept, *arguments)
    states = len(call.signature.states)
    outputs = len(call.signature.outputs)
    constants, cotangents = rest[: -outputs - states], rest[-outputs - states :]
    rows = zip(
        shares(kept, count),
        _blocks(tensors, count, TOKEN_AXIS),
        _blocks(cotangents[:outputs], count, TOKEN_AXIS),
        _blocks(cotangents[outputs:], count, STATE_AXIS),
        strict=True,
    )
    found = [
        backward(call, own, *given, *constants, *d_outputs, *d_finals)
        for own, given, d_outputs, d_finals in rows
    ]
    gradients, d_states = zip(*found, strict=True)
    whole = (
        None if parts[0] is None else torch.cat(parts, TOKEN_AXIS)
        for parts in zip(*gradients, strict=True)
    )
    return tuple(whole), joined(d_states, STATE_AXIS)


def _blocks(tensors: Sequence[Any], count: int, axis: int) -> list[Tensors]:
    """The heads of every tensor in as many blocks, first to last."""
    return list(zip(*(x.chunk(count, axis) for x in tensors), strict=True)) or [()] * count


def by_heads(forward: Function, backward: Function) -> tuple[Function, Function]:
    """The two functions of a chunked body, for any number of heads."""
    return partial(each_forward, forward), partial(each_backward, backward)
