"""Initial values of weights and learned tensors, as published."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import init

if TYPE_CHECKING:
    from lincodegen.nn.rule import Layer

STEP_LOW, STEP_HIGH, STEP_FLOOR = 1e-3, 1e-1, 1e-4
RATE_FLOOR = 1e-4

normal = partial(init.normal_, std=0.02)
"""Of linear maps where nothing else is published (Radford et al. 2019)."""

xavier = partial(init.xavier_uniform_, gain=2**-2.5)
"""Of RetNet's projections (Sun et al. 2023, arXiv:2307.08621), and of GLA's."""


orthogonal_tenth = partial(init.orthogonal_, gain=0.1)
uniform_hundredth = partial(init.uniform_, a=-1e-2, b=1e-2)


def zeros(layer: Layer) -> Tensor:
    """[heads, K] zeros."""
    return torch.zeros(layer.heads, layer.sizes["K"])


def ones(layer: Layer) -> Tensor:
    """[heads] ones."""
    return torch.ones(layer.heads)


def log_rates(low: float, high: float, *axes: int) -> Callable[[Layer], Tensor]:
    """[heads, *axes] logarithms of rates of decay, the rates uniform between the bounds.

    No rate is 0, which has no logarithm.
    """

    def start(layer: Layer) -> Tensor:
        rates = torch.empty(layer.heads, *axes).uniform_(low, high)
        return rates.clamp(min=RATE_FLOOR).log()

    return start


def steps(layer: Layer) -> Tensor:
    """[heads] biases whose softplus is log-uniform in [0.001, 0.1].

    The step sizes of Mamba: Gu and Dao 2023, arXiv:2312.00752.
    """
    return _inverse_softplus(layer.heads)


def channel_steps(layer: Layer) -> Tensor:
    """[heads * K] biases as ``steps`` has them."""
    return _inverse_softplus(layer.heads * layer.sizes["K"])


def _inverse_softplus(count: int) -> Tensor:
    low, high = math.log(STEP_LOW), math.log(STEP_HIGH)
    step = torch.empty(count).uniform_(low, high).exp().clamp(min=STEP_FLOOR)
    return step + torch.log(-torch.expm1(-step))


def _channels(layer: Layer) -> Tensor:
    """[heads * K] numbers from 0 to 1."""
    return torch.linspace(0, 1, layer.heads * layer.sizes["K"])


def _zigzag(layer: Layer) -> Tensor:
    """[heads * K]: from -1 to 1 in every head, x |x|."""
    line = torch.linspace(-1, 1, layer.sizes["K"]).repeat(layer.heads)
    return line * line.abs()


def finch_decays(layer: Layer) -> Tensor:
    """[heads * K] from -6 to -1: exp of it is the rate of decay (arXiv:2404.05892)."""
    return -6 + 5 * _channels(layer) ** (0.7 + 1.3 * layer.depth)


def finch_bonus(layer: Layer) -> Tensor:
    """[heads, K]: the weight of the own write (arXiv:2404.05892)."""
    place = torch.arange(layer.heads * layer.sizes["K"])
    bonus = layer.depth * (1 - _channels(layer)) + 0.1 * ((place + 1) % 3 - 1)
    return bonus.view(layer.heads, -1)


def goose_decays(layer: Layer) -> Tensor:
    """[heads * K]: the bias under the sigmoid of the log decay (arXiv:2503.14456)."""
    slow_to_fast = -5.5 + 6 * _channels(layer) ** (1 + layer.depth**0.3)
    return slow_to_fast + 2.5 * _zigzag(layer)


def goose_rates(layer: Layer) -> Tensor:
    """[heads * K]: the bias of the in-context learning rate (arXiv:2503.14456)."""
    return -0.19 + 0.3 * _zigzag(layer) + 0.4 * (_channels(layer) - 0.5)


def goose_removal(layer: Layer) -> Tensor:
    """[heads, K]: the weight of a key's channels in the removal key (arXiv:2503.14456)."""
    return (0.71 - 0.1 * (_channels(layer) - 0.5)).view(layer.heads, -1)


def constant(value: float) -> Callable[[Layer], Tensor]:
    """[heads, K] of one value."""
    return lambda layer: torch.full((layer.heads, layer.sizes["K"]), value)


def shared_bounds(layer: Layer) -> Tensor:
    """[layers, heads, K] zeros: after softmax and sum, bounds that rise evenly with depth."""
    return torch.zeros(layer.count, layer.heads, layer.sizes["K"])


def small_orthogonal(weight: Tensor) -> Tensor:
    """Orthogonal with gain 0.1, more for wide matrices."""
    rows, columns = weight.shape
    return init.orthogonal_(weight, gain=0.1 * max(1.0, math.sqrt(columns / rows)))
