"""The object that a generated package exports: a function with a ``step``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from lincodegen.runtime.call import Call, States
from lincodegen.runtime.heads import STATE_AXIS, repeat_heads, take_heads
from lincodegen.runtime.library import TracedOp
from lincodegen.runtime.segments import SegmentOp, Segments, Summary
from lincodegen.runtime.signature import Signature
from lincodegen.runtime.tuned import register


class Op:
    """An op over sequences; ``step`` is its one token, for decoding.

    Called as the function that it wraps, whose docstring says what it takes and gives.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        step: Callable[..., Any],
        signature: Signature,
        segments: Segments,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self.step = torch.no_grad()(step)
        self.signature = signature
        self.traced = TracedOp(signature, function)
        register(signature.name, Path(inspect.getfile(function)).parent)
        self.segments = segments
        self._segments = SegmentOp(signature, function, segments)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Outputs and final states of whole sequences."""
        first = args[0] if args else next(iter(kwargs.values()), None)
        if torch.compiler.is_compiling() or _has_no_values(first):
            return self.traced(*args, **kwargs)
        return self._function(*args, **kwargs)

    # -- segments of a sequence -------------------------------------------------------------

    def segment_summary(self, *args: Any, **kwargs: Any) -> Summary:
        """The affine map S_out = M S_in + L of a segment of tokens, for every state.

        Takes the arguments of the op, ``cu_seqlens`` included, but for the initial state and
        ``output_final_state``. Differentiable.

        Raises:
            NotImplementedError: a state has no affine map of its own; the message says why.
        """
        return self._segments.summary(args, kwargs)

    def combine(self, first: Summary, second: Summary) -> Summary:
        """The map of two segments, ``first`` before ``second``. Associative, differentiable."""
        return self._segments.combine(first, second)

    def apply(self, summary: Summary, state: States = None) -> Any:
        """The state after a segment that starts from ``state``, one tensor or one a state.

        Zeros stand where None is given, as in the initial state of the op.
        """
        one = len(self.signature.states) == 1
        if state is None:
            state = (None,) * len(self.signature.states)
        given = (state,) if isinstance(state, Tensor) else tuple(state)
        after = self._segments.apply(summary, given)
        return after[0] if one else after

    def __repr__(self) -> str:
        return f"<op {self.signature.name}>"


def _has_no_values(x: object) -> bool:
    """Whether an argument is a tensor of a shape alone: a fake one, or one on no device."""
    return isinstance(x, FakeTensor) or (isinstance(x, Tensor) and x.is_meta)


def op(
    signature: Signature, step: Callable[..., Any], segments: Segments
) -> Callable[[Callable[..., Any]], Op]:
    """Makes the function below it an op."""
    return lambda function: Op(function, step, signature, segments)


def token_arguments(call: Call) -> list[Tensor]:
    """Inputs [B, H, *shape], parameters [H, *shape] and states of one token, all of H heads."""
    tensors = [x for x in call.tensors.values() if x is not None]
    most = max(*call.heads.values(), 1)
    inputs = len(call.signature.inputs)
    lifted = [repeat_heads(x.to(call.dtype), most) for x in tensors]
    states = [repeat_heads(x, most, STATE_AXIS) for x in call.entered()]
    return [*(x[:, 0] for x in lifted[:inputs]), *(x[0, 0] for x in lifted[inputs:]), *states]


def token_results(call: Call, results: Sequence[Tensor]) -> tuple[Any, Any]:
    """Outputs and states after a token; states that were given are written in place."""
    signature = call.signature
    count = len(signature.outputs)
    outputs = tuple(
        take_heads(_full(call, x, o.shape), call.heads[f"output {o.name}"], STATE_AXIS).to(
            call.output_dtype
        )
        for o, x in zip(signature.outputs, results[:count], strict=True)
    )
    states = []
    for state, given, new in zip(signature.states, call.states, results[count:], strict=True):
        value = take_heads(
            _full(call, new, state.shape), call.heads[f"state {state.name}"], STATE_AXIS
        )
        states.append(value.contiguous() if given is None else given.copy_(value))
    one_state = states[0] if len(states) == 1 else tuple(states)
    return outputs[0] if count == 1 else outputs, one_state


def _full(call: Call, x: Tensor, shape: Sequence[object]) -> Tensor:
    """A result with its batch axis, also where it depends on parameters alone."""
    heads = max(*call.heads.values(), 1)
    return x.expand(call.batch, heads, *x.shape[x.dim() - len(shape) :])
