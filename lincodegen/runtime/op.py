"""The object that a generated package exports: a function with a ``step``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from lincodegen.runtime.lazy import Lazy
from lincodegen.runtime.segments import Segments
from lincodegen.runtime.signature import Signature
from lincodegen.runtime.tracers import before_tracers
from lincodegen.runtime.tuned import register

if TYPE_CHECKING:
    from lincodegen.runtime.call import States
    from lincodegen.runtime.library import TracedOp
    from lincodegen.runtime.library_step import TracedStep
    from lincodegen.runtime.summaries import SegmentOp, Summary

library, library_step = Lazy("lincodegen.runtime.library"), Lazy("lincodegen.runtime.library_step")
summaries = Lazy("lincodegen.runtime.summaries")


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
        self._function, self._step = function, step
        self.step = _untracked(self, step)
        self.signature = signature
        self.segments = segments
        register(signature.name, Path(inspect.getfile(function)).parent)
        before_tracers(lambda: (self.traced, self.traced_step))

    @cached_property
    def traced(self) -> TracedOp:
        """The op as ops of torch.library, registered when they are first asked for."""
        return library.TracedOp(self.signature, self._function)

    @cached_property
    def traced_step(self) -> TracedStep:
        """The step as ops of torch.library."""
        return library_step.TracedStep(self.signature, self._step)

    @cached_property
    def _segments(self) -> SegmentOp:
        return summaries.SegmentOp(self.signature, self._function, self.segments)

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


def _untracked(op: Op, step: Callable[..., Any]) -> Callable[..., Any]:
    """A step without gradients, as an op of torch.library where it is traced."""

    @functools.wraps(step)
    def stepped(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            if torch.compiler.is_compiling():
                return op.traced_step(*args, **kwargs)
            return step(*args, **kwargs)

    return stepped


def _has_no_values(x: object) -> bool:
    """Whether an argument is a tensor of a shape alone: a fake one, or one on no device."""
    return isinstance(x, FakeTensor) or (isinstance(x, Tensor) and x.is_meta)


def op(
    signature: Signature, step: Callable[..., Any], segments: Segments
) -> Callable[[Callable[..., Any]], Op]:
    """Makes the function below it an op."""
    return lambda function: Op(function, step, signature, segments)
