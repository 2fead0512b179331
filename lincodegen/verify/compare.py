"""Tolerances: how far a result may be from the float64 recurrence on the rounded inputs.

With r the exact result, n the recurrence run naively in float32, u the unit roundoff and e the
emulator, the same chunked algorithm with its declared roundings, or else the recurrence in
float32 with the operands of its products rounded:

    F1  algebra, float64     norm2(a - r) <= 1e-9 norm2(r) + 1e-10
    F2  float32              max|a - r| <= 4 max|n - r| + 64 u max|r| + 1e-7
                             with 16 for 4 where keys are collinear: products of reflections
                             magnify the rounding of the keys' products in any chunked form
    F3  bfloat16, float16    max|a - r| <= 2 max|e - r| + 2 max|(r + 0.3 - 0.3) - r|, rounded
                             and, with an emulator, max|a - e| <= 8 u max|e|
    F4  gradient of a gate   F2 and F3 with max|r| replaced by the gate's scale
    F5  one bad token        the largest error of a token against the median of all
    F6  exact                shape, dtype and every bit

Equal infinities agree; NaN agrees with nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FLOAT32_ROUNDOFF = 2.0**-24
TF32_ROUNDOFF = 2.0**-11
ILL_CONDITIONED = 0.1
TIMES_NAIVE = 4
TIMES_NAIVE_COLLINEAR = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """An error figure next to its bound; ``rule`` names the tolerance, F1 to F6."""

    rule: str
    error: float
    bound: float
    passed: bool


def roundoff(dtype: torch.dtype) -> float:
    """u, half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def difference(a: Tensor, b: Tensor) -> Tensor:
    """|a - b| in float64; 0 for equal infinities, infinite where either is NaN."""
    x, y = a.detach().double(), b.detach().double()
    error = (x - y).abs()
    return torch.where(x == y, 0.0, torch.where(error.isnan(), math.inf, error))


def largest(x: Tensor) -> float:
    """max|x|, 0 for an empty tensor, infinite where it has a NaN."""
    values = x.detach().double().abs()
    return float(torch.where(values.isnan(), math.inf, values).max()) if x.numel() else 0.0


def _outcome(rule: str, error: float, bound: float) -> Outcome:
    return Outcome(rule, error, bound, math.isfinite(error) and error <= bound)


def f1(actual: Tensor, reference: Tensor) -> Outcome:
    """Two float64 evaluations of one function."""
    error = float(difference(actual, reference).norm())
    norm = float(torch.where(reference.isfinite(), reference, 0.0).double().norm())
    return _outcome("F1", error, 1e-9 * norm + 1e-10)


def f2(
    actual: Tensor,
    reference: Tensor,
    naive: Tensor,
    *,
    unit: float = FLOAT32_ROUNDOFF,
    scale: float | None = None,
    times: int = TIMES_NAIVE,
) -> Outcome:
    """A float32 result; ``unit`` is TF32_ROUNDOFF where tf32 products are allowed."""
    size = _finite_largest(reference) if scale is None else scale
    bound = times * largest(difference(naive, reference)) + 64 * unit * size + 1e-7
    return _outcome("F2", largest(difference(actual, reference)), bound)


def f3(
    actual: Tensor,
    reference: Tensor,
    rounded: Tensor,
    *,
    dtype: torch.dtype,
    scale: float | None = None,
) -> Outcome:
    """A bfloat16 or float16 result; ``rounded`` is the emulator's or the naive one's."""
    shifted = (reference.to(dtype) + 0.3 - 0.3).double() - reference.double()
    shift = _finite_largest(shifted) if scale is None else 2 * roundoff(dtype) * (scale + 0.3)
    bound = 2 * largest(difference(rounded, reference)) + 2 * shift
    return _outcome("F3", largest(difference(actual, reference)), bound)


def f3_emulated(
    actual: Tensor, emulated: Tensor, *, dtype: torch.dtype, scale: float | None = None
) -> Outcome:
    """A kernel against its emulator: the design's error is none of it, so the bound is tight."""
    size = _finite_largest(emulated) if scale is None else scale
    error = largest(difference(actual, emulated))
    return _outcome("F3e", error, 8 * roundoff(dtype) * size)


def f4_scale(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """max|x . dx| over the inputs ``[B, T, H, *shape]`` of a token and head.

    The gradient of a log decay is a reverse cumulative difference of these products: relative
    to itself it means nothing once the decay has made it vanish.
    """
    products = [(x.double() * dx.double())[..., None].flatten(3) for x, dx in pairs]
    return max((_finite_largest(p.sum(-1)) for p in products), default=0.0)


def f5(
    actual: Tensor,
    reference: Tensor,
    rounded: Tensor,
    *,
    unit: float = FLOAT32_ROUNDOFF,
    times: int = TIMES_NAIVE,
) -> Outcome:
    """Errors of tokens ``[B, T, ...]`` over the rms size of a token.

    No token may be 16 times worse than the median one, or else ``times`` worse than the worst
    of ``rounded`` and 64 roundoffs: errors differ between tokens by nature where a state decays
    or is reset.
    """
    errors, others = _per_token(actual, reference), _per_token(rounded, reference)
    if not errors.numel():
        return _outcome("F5", 0.0, 0.0)
    bound = max(16 * float(errors.median()), times * float(others.max()) + 64 * unit)
    return _outcome("F5", float(errors.max()), bound)


def _per_token(a: Tensor, reference: Tensor) -> Tensor:
    """Per token, the norm of the error over the rms of the norms of the reference."""
    errors = difference(a, reference).transpose(0, 1).flatten(1).norm(dim=1)
    size = reference.double().transpose(0, 1).flatten(1).norm(dim=1).square().mean().sqrt()
    return errors / size.clamp(min=1e-30)


def f6(actual: Tensor, expected: Tensor) -> Outcome:
    """Shape, dtype and values bit for bit; the error is the number of entries that differ."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return Outcome("F6", math.inf, 0.0, False)
    unequal = float((actual.detach() != expected.detach()).sum())
    return Outcome("F6", unequal, 0.0, unequal == 0.0)


def ill_conditioned(reference: Tensor, naive: Tensor, scale: float | None = None) -> bool:
    """Whether the recurrence itself, in float32, is off by a tenth: nothing can be judged."""
    size = _finite_largest(reference) if scale is None else scale
    return largest(difference(naive, reference)) > ILL_CONDITIONED * size + 1e-7


def _finite_largest(x: Tensor) -> float:
    return largest(torch.where(x.isfinite(), x, 0.0))
