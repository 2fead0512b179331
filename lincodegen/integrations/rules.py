"""One call of a shipped op for a library that has its own words for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lincodegen.loading import load_shipped, shipped_names

L2NORM_EPS = 1e-6
NORMALISED = "_qk_l2norm"


@dataclass(frozen=True, slots=True)
class Plan:
    """A shipped op by name, and its tensors and constants by the op's own names."""

    op: str
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])


@dataclass(frozen=True, slots=True)
class Sequences:
    """What goes in and out beside the tensors: states, and where packed sequences start."""

    initial_state: Any = None
    output_final_state: bool = False
    cu_seqlens: Tensor | None = None
    cu_seqlens_cpu: Tensor | None = None


def widened(x: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def l2norm(x: Tensor) -> Tensor:
    """x / sqrt(|x|^2 + eps) over the last axis, computed in float32."""
    wide = widened(x)
    return (wide * torch.rsqrt((wide * wide).sum(-1, keepdim=True) + L2NORM_EPS)).to(x.dtype)


def normalised(plan: Plan) -> Plan:
    """The plan with q and k normalised: by its op if there is one that does, else before it."""
    if plan.op + NORMALISED in shipped_names():
        return replace(plan, op=plan.op + NORMALISED)
    tensors = {n: l2norm(x) if n in ("q", "k") else x for n, x in plan.tensors.items()}
    return replace(plan, tensors=tensors)


def run(plan: Plan, sequences: Sequences) -> tuple[Any, Any]:
    """Outputs and final states of a plan; a single token without gradients takes the step."""
    op = load_shipped(plan.op)
    inputs = [plan.tensors[x.name] for x in op.signature.inputs]
    if sequences.cu_seqlens is None and inputs[0].shape[1] == 1 and not _needs_gradient(plan):
        states = _states(sequences.initial_state)
        if not any(x is not None and x.requires_grad and torch.is_grad_enabled() for x in states):
            return _step(op, plan, sequences)
    return op(
        **plan.tensors,
        **plan.constants,
        initial_state=sequences.initial_state,
        output_final_state=sequences.output_final_state,
        cu_seqlens=sequences.cu_seqlens,
        cu_seqlens_cpu=sequences.cu_seqlens_cpu,
    )


def _step(op: Any, plan: Plan, sequences: Sequences) -> tuple[Any, Any]:
    """One token by the op's step, with states of its own: what was given stays as it is."""
    tokens = {x.name for x in op.signature.inputs}
    tensors = {n: x[:, 0] if n in tokens else x for n, x in plan.tensors.items()}
    double = any(x.dtype == torch.float64 for x in tensors.values())
    dtype = torch.float64 if double else torch.float32
    own = [None if x is None else x.to(dtype, copy=True) for x in _states(sequences.initial_state)]
    state = own[0] if len(own) == 1 else tuple(own)
    output, state = op.step(**tensors, **plan.constants, state=state)
    return output.unsqueeze(1), state if sequences.output_final_state else None


def _needs_gradient(plan: Plan) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in plan.tensors.values())


def _states(state: Tensor | Sequence[Tensor | None] | None) -> list[Tensor | None]:
    return [state] if state is None or isinstance(state, Tensor) else list(state)
