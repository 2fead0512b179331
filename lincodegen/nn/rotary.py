"""Rotary position embedding: Su et al. 2021, arXiv:2104.09864."""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10_000.0


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    """Pairs of channels of x [B, T, heads, K] turned by angles that grow with the position.

    Args:
        x: K is even.
        positions: [B or 1, T].

    Raises:
        ValueError: K is odd.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"rotary embedding: K = {x.shape[-1]}; expected: an even number")
    rates = BASE ** -torch.linspace(0, 1, x.shape[-1] // 2, device=x.device)
    angles = positions[..., None, None] * rates
    cos, sin = angles.cos(), angles.sin()
    even, odd = x[..., ::2], x[..., 1::2]
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1)
    return turned.flatten(-2).to(x.dtype)
