"""Segments of a sequence as affine maps of an op's states, for sequences cut over devices.

    S_out = M S_in + L

A summary holds M and L of every state. Summaries compose, associatively, so that a scan over
devices gives each of them the state that its segment starts from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lincodegen.runtime.function import Plan, planning
from lincodegen.runtime.heads import STATE_AXIS, repeat_heads
from lincodegen.runtime.lazy import Lazy

if TYPE_CHECKING:
    from lincodegen.runtime.call import Call
    from lincodegen.runtime.segments import SegmentMap, Segments
    from lincodegen.runtime.signature import Signature, State

erased = Lazy("lincodegen.runtime.erasures")

Function = Callable[..., Any]


class Summary(NamedTuple):
    """The affine maps of a segment, an entry a state [N, H, *shape].

    ``transitions`` are [N, H] for a scalar, [N, H, R] for a diagonal, [N, H, R, R] for a matrix,
    R the size of the axis that it acts on. ``states`` are the final states from zero states.
    """

    transitions: tuple[Tensor, ...]
    states: tuple[Tensor, ...]


class SegmentOp:
    """What an op says of segments of its sequences."""

    def __init__(self, signature: Signature, function: Function, segments: Segments) -> None:
        self._signature = signature
        self._function = function
        self._segments = segments

    def summary(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Summary:
        """The affine maps of a segment with the arguments of the op, but for states."""
        self._refuse()
        bound = inspect.signature(self._function).bind(*args, **kwargs)
        for name in ("initial_state", "output_final_state"):
            if name in bound.arguments:
                raise TypeError(f"{self._signature.name}: a summary of a segment takes no {name}")
        with planning():
            plan: Plan = self._function(**bound.arguments)
        # values are checked by then, and zeros need not keep what tensors promise
        bound.arguments.pop("check_inputs", None)
        constants = self._constants(plan)
        written = self._finals(bound.arguments, {})
        rows = zip(self._segments.maps, self._signature.states, written, strict=True)
        found = []
        for index, (segment, state, local) in enumerate(rows):
            if segment.kind == "matrix":
                finals = partial(self._finals, {**bound.arguments, **constants})
                found.append(erased.Erasures(plan.call, segment, index, finals).matrix(local))
            else:
                found.append(_product(segment, state, plan.call, constants))
        return Summary(tuple(found), written)

    def combine(self, first: Summary, second: Summary) -> Summary:
        """The maps of two segments one after the other."""
        self._refuse()
        rows = zip(self._segments.maps, first.transitions, second.transitions, strict=True)
        with _exact(second.states[0].device):
            transitions = tuple(b @ a if m.kind == "matrix" else b * a for m, a, b in rows)
        return Summary(transitions, self.apply(second, first.states))

    def apply(self, summary: Summary, states: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
        """The states after a segment that starts from some, zeros where None."""
        self._refuse()
        rows = zip(self._segments.maps, self._signature.states, *summary, states, strict=True)
        with _exact(summary.states[0].device):
            return tuple(
                local if x is None else _mapped(segment, len(state.shape), m, x) + local
                for segment, state, m, local, x in rows
            )

    def _refuse(self) -> None:
        if self._segments.refusal:
            name, reason = self._signature.name, self._segments.refusal
            raise NotImplementedError(f"{name}: no affine maps of segments are derived: {reason}")

    def _constants(self, plan: Plan) -> dict[str, float]:
        names = list(inspect.signature(self._function).parameters)
        count = len(self._signature.inputs) + len(self._signature.parameters)
        return dict(zip(names[count:], plan.constants, strict=False))

    def _finals(
        self, arguments: Mapping[str, object], other: Mapping[str, object]
    ) -> tuple[Tensor, ...]:
        """The final states of the op with some arguments, others in the place of a few."""
        given = {**arguments, **other, "output_final_state": True}
        _, finals = self._function(**given)
        return (finals,) if isinstance(finals, Tensor) else finals


def _exact(device: torch.device) -> torch.autocast:
    """Around products that keep their operands' dtype."""
    return torch.autocast(device.type, enabled=False)


def _mapped(segment: SegmentMap, rank: int, m: Tensor, x: Tensor) -> Tensor:
    """M x for a state with ``rank`` axes behind the heads."""
    if segment.kind == "matrix":
        if rank == 1:
            return (m @ x[..., None])[..., 0]
        return m @ x if segment.axis == 0 else x @ m.mT
    if segment.kind == "diagonal":
        behind = rank - 1 - segment.axis
        ahead = segment.axis
        return m.reshape(*m.shape[:-1], *[1] * ahead, m.shape[-1], *[1] * behind) * x
    return m.reshape(*m.shape, *[1] * rank) * x


# -- products of decays -----------------------------------------------------------------------


def _product(
    segment: SegmentMap, state: State, call: Call, constants: Mapping[str, float]
) -> Tensor:
    """The product of a segment's decays, [N, H] or [N, H, R]; 0 after a log decay of -inf."""
    heads = call.heads[f"state {state.name}"]
    if segment.log_decay is None:
        return torch.ones(call.sequences, heads, dtype=call.dtype, device=call.device)
    tensors = [x for n in segment.tensors if (x := call.tensors[n]) is not None]
    with _exact(call.device):
        log_decay = call.per_token(
            segment.log_decay,
            *tensors,
            *(constants[n] for n in segment.constants),
            *(call.sizes[n] for n in segment.sizes),
            alike=True,
        )
        log_decay = call.spread(log_decay, int(segment.kind == "diagonal"))
        # a sum of many logs costs its exponential no digit
        total = _sum_of_tokens(call, log_decay.double())
        return repeat_heads(total.exp().to(call.dtype), heads, STATE_AXIS)


def _sum_of_tokens(call: Call, x: Tensor) -> Tensor:
    """[B, T, Hx, ...] summed to sequences, [N, Hx, ...]."""
    if call.packing is None:
        return x.sum(1)
    offsets = call.packing.cu_seqlens
    return torch.segment_reduce(x[0].contiguous(), "sum", offsets=offsets, axis=0, initial=0.0)
