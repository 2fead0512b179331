"""Values that keep the promises of a tensor: its domain, its norm."""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor as Values

from lincodegen.spec.step import Interval, Tensor

END_SHARE = 0.05


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own for each purpose, so that tensors do not depend on one another."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {purpose}".encode()))


def normal(shape: tuple[int, ...], source: torch.Generator) -> Values:
    """N(0, 1) in float64."""
    return torch.randn(shape, generator=source, dtype=torch.float64)


def _uniform(shape: tuple[int, ...], source: torch.Generator) -> Values:
    return torch.rand(shape, generator=source, dtype=torch.float64)


def typical(tensor: Tensor, shape: tuple[int, ...], source: torch.Generator) -> Values:
    """Float64 values within the domain; 5 % of the entries on its finite closed ends."""
    low, high = tensor.domain.low, tensor.domain.high
    bell = normal(shape, source)
    if math.isinf(low) and math.isinf(high):
        x = bell / math.sqrt(shape[-1]) if tensor.shape else bell
    elif math.isinf(low):
        x = high - torch.exp(1.5 * bell - 3.0)
    elif math.isinf(high):
        x = low + torch.exp(bell - 1.0)
    else:
        x = low + (high - low) * _uniform(shape, source)
    ends = [end for end in closed_ends(tensor.domain) if math.isfinite(end)]
    for end in ends:
        x = torch.where(_uniform(shape, source) < END_SHARE / len(ends), end, x)
    if tensor.norm is not None:
        x = _of_norm(x, tensor.norm, source)
    return x


def _of_norm(x: Values, norm: Interval, source: torch.Generator) -> Values:
    """Rows of a norm within the promise, half of them at its upper end."""
    if math.isinf(norm.high):
        length = norm.low + x.norm(dim=-1, keepdim=True)
    else:
        shape = (*x.shape[:-1], 1)
        length = norm.low + (norm.high - norm.low) * _uniform(shape, source)
        length = torch.where(_uniform(shape, source) < 0.5, norm.high, length)
    return torch.nn.functional.normalize(x, dim=-1) * length


def closed_ends(domain: Interval) -> list[float]:
    """The ends that belong to an interval, infinite ones included."""
    low = [domain.low] if domain.includes_low else []
    return low + ([domain.high] if domain.includes_high else [])


def inside(tensor: Tensor, x: Values) -> Values:
    """Rounded values moved back to where rounding or a case has left the promise."""
    domain, finfo = tensor.domain, torch.finfo(x.dtype)
    low = domain.low if domain.includes_low else max(domain.low, finfo.min)
    high = domain.high if domain.includes_high else min(domain.high, finfo.max)
    x = x.clamp(low, high)
    inner = torch.tensor(_inner_point(domain), dtype=x.dtype)
    if not domain.includes_low:
        x = torch.where(x == domain.low, inner, x)
    if not domain.includes_high:
        x = torch.where(x == domain.high, inner, x)
    if tensor.norm is not None and math.isfinite(tensor.norm.high):
        length = x.double().norm(dim=-1, keepdim=True)
        over = length > tensor.norm.high * (1.0 - 4 * finfo.eps)
        shrink = 1.0 - 8 * finfo.eps * over.double()
        x = (x.double() * shrink).to(x.dtype)
    return x


def _inner_point(domain: Interval) -> float:
    if math.isfinite(domain.low) and math.isfinite(domain.high):
        return (domain.low + domain.high) / 2
    if math.isfinite(domain.low):
        return domain.low + 1.0
    return domain.high - 1.0 if math.isfinite(domain.high) else 0.0
