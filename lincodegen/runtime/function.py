"""Runs the text of an op under autograd: casts, initial states, empty sequences, gradients."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lincodegen.runtime.call import Call, Layout, cast_to
from lincodegen.runtime.heads import TOKEN_AXIS, place_heads
from lincodegen.runtime.lazy import Lazy
from lincodegen.runtime.schedules import pinned_schedule
from lincodegen.runtime.tuned import running

if TYPE_CHECKING:
    from lincodegen.runtime.blocks import Cut

blocks, separate = Lazy("lincodegen.runtime.blocks"), Lazy("lincodegen.runtime.separate")
threads = Lazy("lincodegen.runtime.threads")

Tensors: TypeAlias = tuple[Tensor, ...]
Kept: TypeAlias = tuple[tuple[Tensor | None, ...], ...]
Results: TypeAlias = tuple[Tensors, Tensors, Kept]
Gradients: TypeAlias = tuple[Tensors, Tensors]

_NOTHING = nullcontext()
_planning: ContextVar[bool] = ContextVar("lincodegen_planning", default=False)


class Body:
    """The two functions that an op's text defines.

    ``forward(call, *tensors, *initial_states, *constants)`` gives outputs, final states, and
    the tensors kept for the backward, None for one that is made again, each a tuple.
    ``backward(call, kept, *tensors, *constants, *d_outputs, *d_final_states)`` gives the
    gradients of the tensors, then those of the initial states. ``recurrent`` is the token loop
    of an op whose own functions are chunked.
    """

    __slots__ = ("backward", "forward", "recurrent")

    def __init__(
        self,
        forward: Callable[..., Results],
        backward: Callable[..., Gradients],
        recurrent: Body | None = None,
    ) -> None:
        self.forward, self.backward, self.recurrent = forward, backward, recurrent


class Plan:
    """What a call of an op runs."""

    __slots__ = ("body", "call", "constants")

    def __init__(self, call: Call, body: Body, constants: tuple[float, ...]) -> None:
        self.call, self.body, self.constants = call, body, constants


class Remains:
    """What a forward leaves for its backward beside its arguments.

    ``heads`` are those of the outputs as they were computed.
    """

    __slots__ = ("heads", "kept")

    def __init__(self, heads: tuple[int, ...], kept: Kept) -> None:
        self.heads, self.kept = heads, kept


@contextmanager
def planning() -> Generator[None]:
    """Inside the block a call of an op gives its plan and runs nothing."""
    token = _planning.set(True)
    try:
        yield
    finally:
        _planning.reset(token)


def run(call: Call, body: Body, constants: Sequence[float], output_final_state: bool) -> Any:
    """Outputs and final states of a call; one is a tensor, several a tuple.

    Raises:
        TypeError: a constant is a tensor, whose gradient would be lost.
    """
    for constant in constants:
        if isinstance(constant, Tensor):
            raise TypeError(f"{call.signature.name}: a constant is a tensor; expected: a number")
    layout = call.layout
    cut = None if body.recurrent is None else layout.cut
    if body.recurrent is not None and _schedule(layout) == "recurrent":
        body, call, cut = body.recurrent, call.looped(), None
    if call.packing is not None and layout.backend == "torch":
        body = _one_by_one(body)
    if cut is not None:
        # outermost: sequences of other lengths would go into blocks of other numbers
        body = _in_blocks(body, cut)
    constants = tuple(constants)
    if _planning.get():
        return Plan(call, body, constants)
    # the graph holds the arguments by save_for_backward alone
    plan = Plan(call.bare(), body, constants)
    results: Any = _Recurrence.apply(plan, *call.tensors.values(), *call.states)
    return shaped(results, len(call.signature.outputs), output_final_state)


@cache
def _one_by_one(body: Body) -> Body:
    return Body(*separate.one_by_one(body.forward, body.backward))


@cache
def _in_blocks(body: Body, cut: Cut) -> Body:
    return Body(*blocks.in_blocks(cut, body.forward, body.backward))


def _schedule(layout: Layout) -> str | None:
    tuned = layout.tuned
    return pinned_schedule() or (None if tuned is None else tuned.config.schedule)


def shaped(
    results: Tensors, count: int, output_final_state: bool
) -> tuple[Tensor | Tensors, Tensor | Tensors | None]:
    """``count`` outputs and the final states as an op gives them."""
    outputs, finals = results[:count], results[count:]
    output = outputs[0] if count == 1 else outputs
    if not output_final_state:
        return output, None
    return output, finals[0] if len(finals) == 1 else finals


def run_forward(plan: Plan, arrays: Sequence[Tensor | None]) -> tuple[Tensors, Remains]:
    """Outputs and final states, and what the backward needs.

    Args:
        plan: the call; its tensors and states are not looked at.
        arrays: tensors and initial states.
    """
    call, body, constants = plan.call, plan.body, plan.constants
    kept: Kept = ()
    with surroundings(call):
        states = call.entered(arrays[len(call.tensors) :])
        if call.empty:
            outputs, finals = call.no_outputs(), tuple(x.clone() for x in states)
        else:
            outputs, finals, kept = body.forward(
                call, *_computed(call, arrays), *states, *constants
            )
        heads = tuple(x.shape[TOKEN_AXIS] for x in outputs)
        return (*call.left_outputs(outputs), *call.left(finals)), Remains(heads, kept)


def run_backward(
    plan: Plan, remains: Remains, arrays: Sequence[Tensor | None], grads: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradients of tensors and initial states, in the compute dtype.

    Args:
        plan: the call; its tensors and states are not looked at.
        remains: what the forward left.
        arrays: tensors and initial states.
        grads: those of outputs and final states.
    """
    call, body, constants = plan.call, plan.body, plan.constants
    names, count = len(call.tensors), len(call.signature.outputs)
    with surroundings(call):
        d_finals = call.left_adjoint(grads[count:])
        if call.empty:
            found = [None if x is None else torch.zeros_like(x) for x in arrays[:names]]
            d_states: Sequence[Tensor] = d_finals
        else:
            pairs = zip(grads, remains.heads, strict=False)
            d_outputs = [place_heads(dx.to(call.dtype), heads) for dx, heads in pairs]
            found, d_states = body.backward(
                call, remains.kept, *_computed(call, arrays), *constants, *d_outputs, *d_finals
            )
        return [*found, *call.entered_adjoint(d_states)]


class _Recurrence(torch.autograd.Function):
    """An op as one node of the graph; its gradient has no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        *arrays: Tensor | None,
    ) -> Tensors:
        results, remains = run_forward(plan, arrays)
        ctx.plan = plan
        ctx.heads = remains.heads
        ctx.lengths = [len(part) for part in remains.kept]
        ctx.save_for_backward(*arrays, *(x for part in remains.kept for x in part))
        return results

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        *grads: Tensor,
    ) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        # checkpoints let the saved tensors be read once
        saved = ctx.saved_tensors
        arrays = saved[: len(needed)]
        remains = Remains(ctx.heads, _parts(saved[len(needed) :], ctx.lengths))
        gradients = run_backward(ctx.plan, remains, arrays, grads)
        return None, *map(_own, gradients, arrays, needed)


def surroundings(call: Call) -> AbstractContextManager[object]:
    """Around an op's text: its configuration, no autocast, launches on its tensors' device."""
    layout = call.layout
    device, tuned = layout.device, layout.tuned
    kind = device.type
    elsewhere = kind == "cuda" and device.index != torch.cuda.current_device()
    able = kind == "cpu" or torch.amp.is_autocast_available(kind)
    mixing = able and torch.is_autocast_enabled(kind)
    # either costs microseconds, so that neither is entered in vain
    if tuned is None and not (elsewhere or mixing):
        return _NOTHING
    stack = ExitStack()
    if tuned is not None:
        stack.enter_context(running(tuned))
        own = tuned.config.torch
        if own is not None and own.threads is not None and layout.backend == "torch":
            stack.enter_context(threads.at_most(own.threads))
    if elsewhere:
        stack.enter_context(torch.cuda.device(device))
    if mixing:
        stack.enter_context(torch.autocast(kind, enabled=False))
    return stack


def _parts(tensors: Tensors, lengths: Sequence[int]) -> Kept:
    """The tensors in tuples of the lengths given."""
    rest = iter(tensors)
    return tuple(tuple(islice(rest, length)) for length in lengths)


def _computed(call: Call, arrays: Sequence[Tensor | None]) -> list[Tensor]:
    """The tensors of a call as its text takes them: kernels read every dtype themselves."""
    tensors = [x for x in arrays[: len(call.tensors)] if x is not None]
    layout = call.layout
    dtype = layout.dtype
    return tensors if layout.backend == "triton" else [cast_to(x, dtype) for x in tensors]


def _own(gradient: Tensor | None, array: Tensor | None, needed: bool) -> Tensor | None:
    """A gradient in its tensor's dtype and shape."""
    if gradient is None or array is None or not needed:
        return None
    return gradient.to(array.dtype).reshape(array.shape)
