"""From the hidden state to one tensor of the op."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lincodegen.nn.rule import Layer, Rule
from lincodegen.nn.windows import Past, ShortConvolution


class Projection(nn.Module):
    """One stream: [B, T, width] to [B, T, heads, *shape]."""

    def __init__(self, name: str, rule: Rule, layer: Layer, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.stream, self.shape = rule.streams[name], shape
        stream, channels = self.stream, math.prod(shape)
        rank = None if stream.rank is None else stream.rank(layer)
        self.low = None if rank is None else nn.Linear(layer.width, rank, bias=False)
        self.full = nn.Linear(rank or layer.width, channels, bias=False)
        # added after the projection: in float32 where the stream is
        self.bias = None if stream.bias is None else nn.Parameter(stream.bias(layer).flatten())
        with torch.no_grad():
            stream.weight(self.full.weight)
            if self.low is not None:
                (stream.first or stream.weight)(self.low.weight)
        self.convolution = (
            ShortConvolution(name, channels, rule.window, rule.window_bias)
            if stream.convolved and rule.window > 1
            else None
        )

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """The stream at every token."""
        if self.low is not None:
            x = self.stream.between(self.low(x))
        x = self.full(x)
        if self.convolution is not None:
            x = self.convolution(x, past)
        wanted = at_least_single(x) if self.stream.precise else x
        biased = wanted if self.bias is None else wanted + self.bias
        return self.stream.activation(biased.unflatten(-1, self.shape)).to(wanted.dtype)


def at_least_single(x: Tensor) -> Tensor:
    """In float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
