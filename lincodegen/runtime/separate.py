"""Packed sequences computed one after the other, for a form that takes one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lincodegen.runtime.call import Call

Tensors: TypeAlias = tuple[Tensor, ...]
Function: TypeAlias = Callable[..., Any]


def each_forward(
    forward: Function, call: Call, *arguments: object
) -> tuple[Tensors, Tensors, tuple[Tensors, ...]]:
    """The outputs of all sequences, their final states, and what each of them keeps."""
    tensors, states, constants = parted(call, arguments, len(call.signature.states))
    outputs: list[Tensors] = []
    finals: list[Tensors] = []
    kept: list[Tensors] = []
    for number, rows in enumerate(_rows(call)):
        own = tuple(x[number : number + 1] for x in states)
        if rows.stop > rows.start:
            alone = call.alone(rows.stop - rows.start)
            given, own, saved = forward(alone, *cut(call, tensors, rows), *own, *constants)
            outputs.append(given)
            kept += saved
        finals.append(own)
    return joined(outputs, 1), joined(finals, 0), tuple(kept)


def each_backward(
    backward: Function,
    call: Call,
    kept: Sequence[Tensors],
    *arguments: object,
) -> tuple[tuple[Tensor | None, ...], Tensors]:
    """Gradients of the inputs row by row, those of parameters summed, those of states."""
    count = len(call.signature.outputs) + len(call.signature.states)
    arguments, cotangents = arguments[:-count], cast("Tensors", arguments[-count:])
    tensors, _, constants = parted(call, arguments, 0)
    d_outputs = cotangents[: len(call.signature.outputs)]
    d_finals = cotangents[len(call.signature.outputs) :]
    parts = iter(shares(kept, sum(r.stop > r.start for r in _rows(call))))
    found: list[tuple[Tensor | None, ...]] = []
    d_states: list[Tensors] = []
    for number, rows in enumerate(_rows(call)):
        own = tuple(x[number : number + 1] for x in d_finals)
        if rows.stop > rows.start:
            alone = call.alone(rows.stop - rows.start)
            d_rows = [x[:, rows] for x in d_outputs]
            given = cut(call, tensors, rows)
            gradients, own = backward(alone, next(parts), *given, *constants, *d_rows, *own)
            found.append(gradients)
        d_states.append(own)
    return merged(call, found), joined(d_states, 0)


def parted(
    call: Call, arguments: Sequence[object], states: int
) -> tuple[Tensors, Tensors, Sequence[object]]:
    """Tensors, as many states, and constants."""
    count = len(call.tensors)
    rest = count + states
    tensors = cast("Tensors", tuple(arguments[:rest]))
    return tensors[:count], tensors[count:], arguments[rest:]


def _rows(call: Call) -> list[slice]:
    if call.packing is None:
        return [slice(0, call.length)]
    start, found = 0, []
    for length in call.packing.host_lengths():
        found.append(slice(start, start + length))
        start += length
    return found


def cut(call: Call, tensors: Tensors, rows: slice) -> Tensors:
    """Some rows of every input, and the parameters."""
    inputs = len(call.signature.inputs)
    return (*(x[:, rows] for x in tensors[:inputs]), *tensors[inputs:])


def shares(kept: Sequence[Tensors], sequences: int) -> list[Sequence[Tensors]]:
    """What each sequence keeps of what all do."""
    size = len(kept) // max(sequences, 1)
    return [kept[i * size : (i + 1) * size] for i in range(sequences)]


def joined(parts: Sequence[Tensors], axis: int) -> Tensors:
    """The tensors of all parts, entry by entry."""
    return tuple(torch.cat(entries, axis) for entries in zip(*parts, strict=True))


def merged(call: Call, parts: Sequence[tuple[Tensor | None, ...]]) -> tuple[Tensor | None, ...]:
    """Gradients of inputs row by row, those of parameters summed; None where there is none."""
    found: list[Tensor | None] = []
    for place, own in enumerate(zip(*parts, strict=True)):
        given = [x for x in own if x is not None]
        if not given:
            found.append(None)
        elif place < len(call.signature.inputs):
            found.append(torch.cat(given, 1))
        else:
            found.append(torch.stack(given).sum(0))
    return tuple(found)


def one_by_one(forward: Function, backward: Function) -> tuple[Function, Function]:
    """The two functions of a body, for packed sequences."""
    return partial(each_forward, forward), partial(each_backward, backward)
