"""The error of a contestant against the recurrence in float64, at the very shape that is timed.

The recurrence runs token by token, so it covers the first tokens of the first sequence in its
first and its last head. Nothing later enters these outputs, and with a cotangent that is zero
elsewhere nothing later enters their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lincodegen.bench.inputs import Inputs, Tensors
from lincodegen.verify.reference import run

BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
CUDA_FLOAT32_BOUND = 5e-3
"""Products of float32 may be rounded to tf32 on a GPU."""


@dataclass(frozen=True, slots=True)
class Error:
    """norm2(x - r) / norm2(r) by tensor, an output's name or ``grad x``; over ``tokens`` tokens."""

    tokens: int
    tensors: dict[str, float]
    bound: float

    @property
    def worst(self) -> tuple[str, float]:
        """The tensor that is off most, and by how much."""
        return max(self.tensors.items(), key=lambda item: item[1])

    @property
    def ok(self) -> bool:
        """Whether no tensor is off by more than the bound."""
        return self.worst[1] <= self.bound


@dataclass(frozen=True, slots=True)
class Exact:
    """Exact outputs [1, P, 2, *shape] and gradients of the window, and the masked cotangents."""

    tokens: int
    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]
    cotangents: tuple[Tensor, ...]
    bound: float

    def error(self, inputs: Inputs, outputs: Sequence[Tensor], gradients: Tensors) -> Error:
        """The error of outputs [B, T, H, *shape] and gradients of the inputs by name.

        A gradient that is missing is left out.

        Raises:
            ValueError: an output or gradient has another shape than it should have.
        """
        names = [name for name, _ in inputs.recurrence.outputs]
        found: dict[str, float] = {}
        for name, x in zip(names, outputs, strict=True):
            found[name] = _relative(_window(x, self.tokens), self.outputs[name], name)
        tokenwise = {x.name for x in inputs.recurrence.inputs}
        for name, dx in gradients.items():
            part = _window(dx, self.tokens) if name in tokenwise else _ends(dx, 0)
            found[f"grad {name}"] = _relative(part, self.gradients[name], f"grad {name}")
        return Error(self.tokens, found, self.bound)


def bound_of(dtype: torch.dtype, device: torch.device) -> float:
    """The relative error from which on a result counts as wrong."""
    if dtype == torch.float32 and device.type == "cuda":
        return CUDA_FLOAT32_BOUND
    return BOUNDS[dtype]


def exact(inputs: Inputs, bound: float, most_tokens: int) -> Exact:
    """The recurrence of a window of the inputs in float64 on the CPU."""
    recurrence = inputs.recurrence
    tokens = min(inputs.work.shape.tokens, most_tokens)
    tokenwise = {x.name for x in recurrence.inputs}
    tensors = {
        name: (_window(x, tokens) if name in tokenwise else _ends(x, 0)).detach().cpu().double()
        for name, x in inputs.tensors.items()
    }
    backward = inputs.work.mode == "forward_backward"
    leaves = {name: x.requires_grad_(backward) for name, x in tensors.items()}
    states = {name: _ends(x[:1], 1).cpu().double() for name, x in inputs.states.items()}
    with torch.set_grad_enabled(backward):
        outputs, _ = run(recurrence, leaves, initial_state=states)
    gradients: dict[str, Tensor] = {}
    if backward:
        given = [_window(x, tokens).cpu().double() for x in inputs.cotangents]
        found = torch.autograd.grad(list(outputs.values()), list(leaves.values()), given)
        gradients = dict(zip(leaves, found, strict=True))
    results = {name: x.detach() for name, x in outputs.items()}
    masked = tuple(_masked(x, tokens) for x in inputs.cotangents)
    return Exact(tokens, results, gradients, masked, bound)


def _ends(x: Tensor, axis: int) -> Tensor:
    """The first and the last head, once if they are one."""
    last = x.shape[axis] - 1
    return x.index_select(axis, torch.tensor([0, last] if last else [0], device=x.device))


def _window(x: Tensor, tokens: int) -> Tensor:
    return _ends(x[:1, :tokens], 2)


def _masked(x: Tensor, tokens: int) -> Tensor:
    """The cotangent in the window, zero elsewhere."""
    kept = torch.zeros_like(x)
    for head in {0, x.shape[2] - 1}:
        kept[0, :tokens, head] = x[0, :tokens, head]
    return kept


def _relative(x: Tensor, exact: Tensor, name: str) -> float:
    if x.shape != exact.shape:
        raise ValueError(f"{name} has the shape {list(x.shape)}; expected {list(exact.shape)}")
    difference = float((x.detach().cpu().double() - exact).norm())
    size = float(exact.norm())
    error = difference / size if size else difference
    return error if math.isfinite(error) else math.inf
