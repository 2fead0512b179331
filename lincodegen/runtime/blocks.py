"""Some heads and tokens at a time, so that what a chunked form makes on a CPU stays in its caches.

A tensor of many megabytes is new memory each time it is made, and every page of it is a fault:
for 32 heads of 2048 tokens that takes longer than the products. Heads do not depend on each other,
and a stretch of whole chunks depends on those before by the state alone, so that each has the same
bits in any block; sums over tokens, for parameters, have theirs rounded anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch

from lincodegen.runtime.heads import STATE_AXIS, TOKEN_AXIS
from lincodegen.runtime.separate import Tensors, cut, joined, merged, parted, shares
from lincodegen.runtime.tuned import torch_config

if TYPE_CHECKING:
    from torch import Tensor

    from lincodegen.runtime.call import Call

Function: TypeAlias = Callable[..., Any]

MOST_ELEMENTS = 1 << 19
"""Of the largest input of a block with all its heads, where no table has a number; 2 MB."""
LEAST_STRETCH = 256
"""Tokens: of fewer, what is done for all chunks at once is done for too few."""


def count_of(call: Call, tensors: Tensors) -> int:
    """Into how many blocks the heads of a call go: the fewest that are small enough."""
    most, size = _most_elements(), stretch_of(call, tensors)
    total = _a_token(call, tensors) * (size if _is_cut(call, size) else call.length)
    if total <= most:
        return 1
    heads = math.gcd(*call.heads.values())
    counts = (n for n in range(1, heads + 1) if heads % n == 0)
    return next((n for n in counts if total <= n * most), heads)


def stretch_of(call: Call, tensors: Tensors) -> int:
    """Tokens of a stretch: as many as make a block of all heads, whatever the length of the call.

    A power of two, of whole chunks.
    """
    fitting = max(1, _most_elements() // _a_token(call, tensors))
    return max(LEAST_STRETCH, call.chunk_size, 1 << (fitting.bit_length() - 1))


def _most_elements() -> int:
    own = torch_config()
    return MOST_ELEMENTS if own is None else own.block_elements


def _is_cut(call: Call, size: int) -> bool:
    """Whether a sequence goes in stretches; packed ones go one by one, each as a whole."""
    return call.packing is None and call.length >= 2 * size


def _a_token(call: Call, tensors: Tensors) -> int:
    """Elements of a token of the largest input, if it had all heads."""
    each = max([x.numel() // x.shape[TOKEN_AXIS] for x in tensors])
    return max(1, each * max(call.heads.values()) // call.length)


def each_forward(
    forward: Function, call: Call, *arguments: object
) -> tuple[Tensors, Tensors, tuple[Tensors, ...]]:
    """Outputs and final states of all heads, and what each block keeps."""
    tensors, states, constants = parted(call, arguments, len(call.signature.states))
    count, size = count_of(call, tensors), stretch_of(call, tensors)
    if _is_cut(call, size):
        forward = partial(stretch_forward, forward, size)
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
    count, size = count_of(call, tensors), stretch_of(call, tensors)
    if _is_cut(call, size):
        backward = partial(stretch_backward, backward, size)
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


def stretch_forward(
    forward: Function, size: int, call: Call, *arguments: object
) -> tuple[Tensors, Tensors, tuple[Tensors, ...]]:
    """Outputs of stretches of a sequence, each from the states that the one before left."""
    tensors, states, constants = parted(call, arguments, len(call.signature.states))
    outputs: list[Tensors] = []
    kept: list[Tensors] = []
    for rows in stretches(call.length, size):
        alone = call.alone(rows.stop - rows.start)
        given, states, saved = forward(alone, *cut(call, tensors, rows), *states, *constants)
        outputs.append(given)
        kept += saved
    return joined(outputs, 1), states, tuple(kept)


def stretch_backward(
    backward: Function, size: int, call: Call, kept: Sequence[Tensors], *arguments: object
) -> tuple[tuple[Tensor | None, ...], Tensors]:
    """Gradients of stretches, the last first: those of states are handed back."""
    tensors, _, rest = parted(call, arguments, 0)
    states, outputs = len(call.signature.states), len(call.signature.outputs)
    constants, cotangents = rest[: -outputs - states], cast("Tensors", rest[-outputs - states :])
    d_states = cotangents[outputs:]
    parts = stretches(call.length, size)
    found: list[tuple[Tensor | None, ...]] = []
    for rows, own in zip(reversed(parts), reversed(shares(kept, len(parts))), strict=True):
        alone = call.alone(rows.stop - rows.start)
        d_rows = [x[:, rows] for x in cotangents[:outputs]]
        given = cut(call, tensors, rows)
        gradients, d_states = backward(alone, own, *given, *constants, *d_rows, *d_states)
        found.insert(0, gradients)
    return merged(call, found), d_states


def stretches(length: int, size: int) -> list[slice]:
    """The rows of stretches of a size; what is left over goes to the last one."""
    starts = range(0, max(1, length // size) * size, size)
    return [slice(a, b) for a, b in pairwise((*starts, length))]
