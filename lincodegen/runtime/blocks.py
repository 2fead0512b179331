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
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import torch

from lincodegen.runtime.heads import STATE_AXIS, TOKEN_AXIS
from lincodegen.runtime.separate import Tensors, cut, joined, merged, parted, shares
from lincodegen.runtime.sizes import evaluate

if TYPE_CHECKING:
    from torch import Tensor

    from lincodegen.runtime.call import Call, Layout

Function: TypeAlias = Callable[..., Any]

MOST_ELEMENTS = 1 << 19
"""Of the largest input of a block with all its heads, where no table has a number; 2 MB."""
LEAST_STRETCH = 256
"""Tokens: of fewer, what is done for all chunks at once is done for too few."""


class Cut(NamedTuple):
    """How a call is cut.

    Attributes:
        blocks: how many blocks of heads.
        stretch: tokens of a stretch; 0 where a sequence goes as a whole.
    """

    blocks: int
    stretch: int


def cut_of(layout: Layout) -> Cut | None:
    """How like calls are cut; None where all heads and tokens go at once."""
    size = stretch_of(layout)
    # packed sequences go one by one, each as a whole
    stretch = size if not layout.packed and layout.length >= 2 * size else 0
    count = count_of(layout, stretch or layout.length)
    return Cut(count, stretch) if stretch or count > 1 else None


def count_of(layout: Layout, tokens: int) -> int:
    """Into how many blocks the heads of so many tokens go: the fewest that are small enough."""
    most, total = _most_elements(layout), _a_token(layout) * tokens
    if total <= most:
        return 1
    heads = math.gcd(*layout.heads.values())
    counts = (n for n in range(1, heads + 1) if heads % n == 0)
    return next((n for n in counts if total <= n * most), heads)


def stretch_of(layout: Layout) -> int:
    """Tokens of a stretch: as many as make a block of all heads, whatever the length of the call.

    A power of two, of whole chunks.
    """
    fitting = max(1, _most_elements(layout) // _a_token(layout))
    return max(LEAST_STRETCH, layout.chunk_size, 1 << (fitting.bit_length() - 1))


def _most_elements(layout: Layout) -> int:
    own = None if layout.tuned is None else layout.tuned.config.torch
    return MOST_ELEMENTS if own is None else own.block_elements


def _a_token(layout: Layout) -> int:
    """Elements of a token of the largest input, if it had all heads."""
    shapes = [[evaluate(n, layout.sizes) for n in x.shape] for x in layout.signature.inputs]
    return max(1, layout.batch * max(layout.heads.values()) * max(map(math.prod, shapes)))


def each_forward(
    forward: Function, count: int, call: Call, *arguments: object
) -> tuple[Tensors, Tensors, tuple[Tensors, ...]]:
    """Outputs and final states of all heads, and what each block keeps."""
    tensors, states, constants = parted(call, arguments, len(call.signature.states))
    rows = zip(_blocks(tensors, count, TOKEN_AXIS), _blocks(states, count, STATE_AXIS), strict=True)
    found = [forward(call, *own, *entered, *constants) for own, entered in rows]
    outputs, finals, kept = zip(*found, strict=True)
    return (
        joined(outputs, TOKEN_AXIS),
        joined(finals, STATE_AXIS),
        tuple(x for k in kept for x in k),
    )


def each_backward(
    backward: Function, count: int, call: Call, kept: Sequence[Tensors], *arguments: object
) -> tuple[tuple[Tensor | None, ...], Tensors]:
    """Gradients of tensors and states of all heads."""
    tensors, _, rest = parted(call, arguments, 0)
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


def in_blocks(cut: Cut, forward: Function, backward: Function) -> tuple[Function, Function]:
    """The two functions of a chunked body, over a call that is cut."""
    if cut.stretch:
        forward = partial(stretch_forward, forward, cut.stretch)
        backward = partial(stretch_backward, backward, cut.stretch)
    if cut.blocks > 1:
        forward = partial(each_forward, forward, cut.blocks)
        backward = partial(each_backward, backward, cut.blocks)
    return forward, backward


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
