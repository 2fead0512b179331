"""Runs the text of an op under autograd: casts, initial states, empty sequences, gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lincodegen.runtime.call import Call
from lincodegen.runtime.heads import TOKEN_AXIS, place_heads
from lincodegen.runtime.schedules import pinned_schedule
from lincodegen.runtime.separate import one_by_one

Tensors: TypeAlias = tuple[Tensor, ...]
Kept: TypeAlias = tuple[Tensors, ...]
Results: TypeAlias = tuple[Tensors, Tensors, Kept]
Gradients: TypeAlias = tuple[Tensors, Tensors]


@dataclass(frozen=True, slots=True)
class Body:
    """The two functions that an op's text defines.

    ``forward(call, *tensors, *initial_states, *constants)`` gives outputs, final states, and
    the tensors kept for the backward, each a tuple. ``backward(call, kept, *tensors,
    *constants, *d_outputs, *d_final_states)`` gives the gradients of the tensors, then those
    of the initial states.
    """

    forward: Callable[..., Results]
    backward: Callable[..., Gradients]
    recurrent: Body | None = None
    """The token loop of an op whose own functions are chunked."""


def run(
    call: Call, body: Body, constants: Sequence[float], output_final_state: bool
) -> tuple[Tensor | Tensors, Tensor | Tensors | None]:
    """Outputs and final states of a call; one is a tensor, several a tuple."""
    if body.recurrent is not None and pinned_schedule() == "recurrent":
        body, call = body.recurrent, call.looped()
    if call.packing is not None and call.backend == "torch":
        body = Body(*one_by_one(body.forward, body.backward))
    results = _Recurrence.apply(call, body, constants, *call.tensors.values(), *call.states)
    count = len(call.signature.outputs)
    outputs, finals = results[:count], results[count:]
    output = outputs[0] if count == 1 else outputs
    final = finals[0] if len(finals) == 1 else finals
    return output, final if output_final_state else None


class _Recurrence(torch.autograd.Function):
    """An op as one node of the graph; its gradient has no gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's own object
        call: Call,
        body: Body,
        constants: Sequence[float],
        *arrays: Tensor | None,
    ) -> Tensors:
        kept: Kept = ()
        with torch.autocast(call.device.type, enabled=False):
            if call.empty:
                outputs, finals = call.no_outputs(), tuple(x.clone() for x in call.entered())
            else:
                tensors = _computed(call, arrays)
                outputs, finals, kept = body.forward(call, *tensors, *call.entered(), *constants)
            ctx.body, ctx.constants = body, tuple(constants)
            # the graph holds the arguments by save_for_backward alone
            ctx.call = replace(call, tensors=dict.fromkeys(call.tensors), states=())
            ctx.heads = [x.shape[TOKEN_AXIS] for x in outputs]
            ctx.lengths = [len(part) for part in kept]
            ctx.save_for_backward(*arrays, *(x for part in kept for x in part))
            return *call.left_outputs(outputs), *call.left(finals)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401 - autograd's own object
        *grads: Tensor,
    ) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        needed = ctx.needs_input_grad[3:]
        names, count = len(call.tensors), len(call.signature.outputs)
        arrays = ctx.saved_tensors[: len(needed)]
        kept = _parts(ctx.saved_tensors[len(needed) :], ctx.lengths)
        with torch.autocast(call.device.type, enabled=False):
            d_finals = call.left_adjoint(grads[count:])
            if call.empty:
                found = [None if x is None else torch.zeros_like(x) for x in arrays[:names]]
                d_states: Sequence[Tensor] = d_finals
            else:
                pairs = zip(grads, ctx.heads, strict=False)
                d_outputs = [place_heads(dx.to(call.dtype), heads) for dx, heads in pairs]
                found, d_states = ctx.body.backward(
                    call, kept, *_computed(call, arrays), *ctx.constants, *d_outputs, *d_finals
                )
            gradients = [*found, *call.entered_adjoint(d_states)]
        return None, None, None, *map(_own, gradients, arrays, needed)


def _parts(tensors: Tensors, lengths: Sequence[int]) -> Kept:
    """The tensors in tuples of the lengths given."""
    rest = iter(tensors)
    return tuple(tuple(islice(rest, length)) for length in lengths)


def _computed(call: Call, arrays: Sequence[Tensor | None]) -> list[Tensor]:
    """The tensors of a call as its text takes them: kernels read every dtype themselves."""
    tensors = [x for x in arrays[: len(call.tensors)] if x is not None]
    return tensors if call.backend == "triton" else [x.to(call.dtype) for x in tensors]


def _own(gradient: Tensor | None, array: Tensor | None, needed: bool) -> Tensor | None:
    """A gradient in its tensor's dtype and shape."""
    if gradient is None or array is None or not needed:
        return None
    return gradient.to(array.dtype).reshape(array.shape)
