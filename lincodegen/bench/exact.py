"""The error of a contestant against the recurrence in float64, at the very shape that is timed.

The recurrence runs token by token, so outputs are compared for the first tokens of the first
sequence, in its first and its last head, and gradients for a window of these tokens. Nothing later
enters the outputs; with a cotangent that is zero outside the window nothing else enters the
gradients of its tokens.
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
    """norm2(x - r) / norm2(r) by tensor, an output's name or ``grad x``.

    Attributes:
        tokens: over which outputs are compared.
        window: the first token whose gradient is, and the first after it that is not.
    """

    tokens: int
    window: tuple[int, int]
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
    """Outputs [1, tokens, 2, *shape] and gradients of the window by the input's name.

    ``cotangents`` are those of the inputs, zero outside of the window.
    """

    tokens: int
    window: tuple[int, int]
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
            found[name] = _relative(_part(x, (0, self.tokens)), self.outputs[name], name)
        tokenwise = {x.name for x in inputs.recurrence.inputs}
        for name, dx in gradients.items():
            part = _part(dx, self.window) if name in tokenwise else _ends(dx, 0)
            found[f"grad {name}"] = _relative(part, self.gradients[name], f"grad {name}")
        return Error(self.tokens, self.window, found, self.bound)


def bound_of(dtype: torch.dtype, device: torch.device) -> float:
    """The relative error from which on a result counts as wrong."""
    if dtype == torch.float32 and device.type == "cuda":
        return CUDA_FLOAT32_BOUND
    return BOUNDS[dtype]


def exact(inputs: Inputs, bound: float, most: tuple[int, int]) -> Exact:
    """The recurrence in float64 on the CPU; ``most`` tokens of outputs, and of gradients."""
    tokens = min(inputs.work.shape.tokens, most[0])
    window = _window(inputs, tokens, most[1])
    states = {name: _ends(x[:1], 1).cpu().double() for name, x in inputs.states.items()}
    pieces: list[dict[str, Tensor]] = []
    gradients: dict[str, Tensor] = {}
    for begin, end in ((0, window[0]), window, (window[1], tokens)):
        if begin == end:
            continue
        backward = (begin, end) == window and inputs.work.mode == "forward_backward"
        leaves = _leaves(inputs, (begin, end), backward)
        with torch.set_grad_enabled(backward):
            outputs, finals = run(inputs.recurrence, leaves, initial_state=states)
        if backward:
            given = [_part(x, window).cpu().double() for x in inputs.cotangents]
            found = torch.autograd.grad(list(outputs.values()), list(leaves.values()), given)
            gradients = dict(zip(leaves, found, strict=True))
        pieces.append({name: x.detach() for name, x in outputs.items()})
        states = {name: x.detach() for name, x in finals.items()}
    whole = {name: torch.cat([piece[name] for piece in pieces], 1) for name in pieces[0]}
    masked = tuple(_masked(x, window) for x in inputs.cotangents)
    return Exact(tokens, window, whole, gradients, masked, bound)


def _window(inputs: Inputs, tokens: int, most: int) -> tuple[int, int]:
    """The last tokens, whose state has come through all chunks before.

    The gradient of a parameter sums over all tokens before: with one the first are taken.
    """
    length = min(tokens, most) if inputs.work.mode == "forward_backward" else tokens
    given = any(p.name in inputs.tensors for p in inputs.recurrence.parameters)
    return (0, length) if given else (tokens - length, tokens)


def _leaves(inputs: Inputs, part: tuple[int, int], backward: bool) -> dict[str, Tensor]:
    tokenwise = {x.name for x in inputs.recurrence.inputs}
    found: dict[str, Tensor] = {}
    for name, x in inputs.tensors.items():
        own = _part(x, part) if name in tokenwise else _ends(x, 0)
        found[name] = own.detach().cpu().double().requires_grad_(backward)
    return found


def _ends(x: Tensor, axis: int) -> Tensor:
    """The first and the last head, once if they are one."""
    last = x.shape[axis] - 1
    return x.index_select(axis, torch.tensor([0, last] if last else [0], device=x.device))


def _part(x: Tensor, tokens: tuple[int, int]) -> Tensor:
    return _ends(x[:1, slice(*tokens)], 2)


def _masked(x: Tensor, window: tuple[int, int]) -> Tensor:
    """The cotangent in the window, zero elsewhere."""
    kept = torch.zeros_like(x)
    for head in {0, x.shape[2] - 1}:
        kept[0, slice(*window), head] = x[0, slice(*window), head]
    return kept


def _relative(x: Tensor, exact: Tensor, name: str) -> float:
    if x.shape != exact.shape:
        raise ValueError(f"{name} has the shape {list(x.shape)}; expected {list(exact.shape)}")
    difference = float((x.detach().cpu().double() - exact).norm())
    size = float(exact.norm())
    error = difference / size if size else difference
    return error if math.isfinite(error) else math.inf
