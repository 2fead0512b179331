"""A token mixer around any recurrence with one output: gates and projections read off its spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lincodegen.resources import specs_dir
from lincodegen.spec import load
from lincodegen.spec.step import Recurrence
from lincodegen.spec.step import Tensor as Declared

SLOW_DECAY, FAST_DECAY = 1e-3, 1e-1


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of a mixer: ``heads`` heads with a state [key, value] each."""

    width: int
    heads: int
    key: int
    value: int
    window: int
    """Tokens that the causal convolution of unbounded vectors sees; 0: no convolution."""

    @property
    def dimensions(self) -> dict[str, int]:
        """Values of the dimensions that specs of matrix states use."""
        return {"K": self.key, "V": self.value}


def shipped(name: str, sets: Mapping[str, int] | None = None) -> Recurrence:
    """The recurrence of a shipped spec."""
    return load(specs_dir() / f"{name}.yaml", sets=sets or {})


class Mixer(nn.Module):
    """[B, T, width] to the same: one projection a tensor of the spec, the op, gate and norm.

    Every input lies in its declared domain: a log decay is -softplus(x), a bounded number a
    shifted sigmoid, a vector of bounded norm is normalised. So the same code trains a delta
    rule with beta in [0, 1], another with beta in [0, 2], and a rule of no paper.
    """

    def __init__(self, recurrence: Recurrence, op: Callable[..., Any], size: Size) -> None:
        super().__init__()
        self.op, self.size = op, size
        self.inputs = tuple(x for x in recurrence.inputs if x.default is None)
        self.shapes = [tuple(d.evaluate(size.dimensions) for d in x.shape) for x in self.inputs]
        self.columns = [size.heads * math.prod(shape) for shape in self.shapes]
        self.project = nn.Linear(size.width, sum(self.columns))
        self.convolved = [_is_free_vector(x) for x in self.inputs]
        channels = sum(n for n, free in zip(self.columns, self.convolved, strict=True) if free)
        self.convolution = (
            nn.Conv1d(channels, channels, size.window, groups=channels, bias=False)
            if size.window
            else None
        )
        parameters = [x for x in recurrence.parameters if x.default is None]
        self.declared = {x.name: x for x in parameters}
        self.own = nn.ParameterDict(
            {
                x.name: torch.zeros(size.heads, *(d.evaluate(size.dimensions) for d in x.shape))
                for x in parameters
            }
        )
        self.gate = nn.Linear(size.width, size.heads * size.value)
        self.norm = nn.RMSNorm(size.value)
        self.out = nn.Linear(size.heads * size.value, size.width, bias=False)
        self._start_slow()

    def _start_slow(self) -> None:
        """Biases of log decays: rates from slow to fast over a head's channels and the heads."""
        start = 0
        for declared, count in zip(self.inputs, self.columns, strict=True):
            if declared.domain.high == 0:
                span = torch.linspace(math.log(SLOW_DECAY), math.log(FAST_DECAY), count)
                with torch.no_grad():
                    self.project.bias[start : start + count] = span.exp().expm1().log()
            start += count

    def forward(self, x: Tensor) -> Tensor:
        """The op's output at every token, gated and projected back."""
        batch, length, _ = x.shape
        parts = list(self.project(x).split(self.columns, -1))
        if self.convolution is not None:
            parts = self._mix_neighbours(parts, self.convolution)
        tensors = [
            in_domain(declared, part.view(batch, length, self.size.heads, *shape))
            for declared, part, shape in zip(self.inputs, parts, self.shapes, strict=True)
        ]
        own = [in_domain(self.declared[name], value) for name, value in self.own.items()]
        output, _ = self.op(*tensors, *own)
        gate = functional.silu(self.gate(x)).view_as(output)
        return self.out((self.norm(output) * gate).flatten(2))

    def _mix_neighbours(self, parts: list[Tensor], convolution: nn.Conv1d) -> list[Tensor]:
        """Free vectors after a short causal convolution and silu."""
        free = [i for i, convolved in enumerate(self.convolved) if convolved]
        joined = torch.cat([parts[i] for i in free], -1).mT
        joined = functional.pad(joined, (self.size.window - 1, 0))
        mixed = functional.silu(convolution(joined)).mT
        for i, part in zip(free, mixed.split([self.columns[i] for i in free], -1), strict=True):
            parts[i] = part
        return parts


def _is_free_vector(declared: Declared) -> bool:
    return bool(declared.shape) and math.isinf(declared.domain.low) and declared.domain.high > 0


def in_domain(declared: Declared, x: Tensor) -> Tensor:
    """Any number as one of the domain, any vector as one of the norm, that a spec promises."""
    low, high = declared.domain.low, declared.domain.high
    if declared.norm is not None:
        return functional.normalize(x, dim=-1) * min(declared.norm.high, 1.0)
    if math.isfinite(low) and math.isfinite(high):
        return low + (high - low) * torch.sigmoid(x)
    if math.isfinite(high):
        return high - functional.softplus(x)
    if math.isfinite(low):
        return low + functional.softplus(x)
    return x


class Block(nn.Module):
    """Mixer and gated feed-forward layer, each behind a norm and beside a residual."""

    def __init__(self, mixer: nn.Module, width: int, inner: int) -> None:
        super().__init__()
        self.mixer = mixer
        self.before_mixer = nn.RMSNorm(width)
        self.before_feed = nn.RMSNorm(width)
        self.up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] to the same."""
        x = x + self.mixer(self.before_mixer(x))
        up, gate = self.up(self.before_feed(x)).chunk(2, -1)
        return x + self.down(up * functional.silu(gate))


class Model(nn.Module):
    """Tokens [B, T] to logits [B, T, classes]."""

    def __init__(self, tokens: int, classes: int, blocks: list[Block], width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, classes, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits at every position."""
        return self.head(self.norm(self.blocks(self.embed(tokens))))
