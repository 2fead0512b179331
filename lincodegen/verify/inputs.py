"""Test inputs drawn from the promises of a spec: domains, norms, shapes. Knows no names.

A case is drawn in float64 on the CPU, rounded to its dtype, and judged by the float64
recurrence on the rounded values.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor as Values

from lincodegen.spec.step import Interval, Recurrence, Tensor
from lincodegen.verify.adversaries import ADVERSARIES, Drawn
from lincodegen.verify.layout import head_counts, is_unbounded_vector, tensors_of
from lincodegen.verify.reference import run

HeadCounts: TypeAlias = int | Mapping[str, int]
END_SHARE = 0.05
LARGEST = 1e4


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a call. ``heads`` is one count for all tensors or a count by name.

    ``cu_seqlens`` packs sequences: ``batch`` is 1 and ``length`` the last offset.
    """

    sizes: Mapping[str, int]
    length: int
    batch: int = 2
    heads: HeadCounts = 2
    cu_seqlens: tuple[int, ...] | None = None

    @property
    def sequences(self) -> int:
        """N, the first axis of the states."""
        return self.batch if self.cu_seqlens is None else len(self.cu_seqlens) - 1

    def shape(self, recurrence: Recurrence, tensor: Tensor) -> tuple[int, ...]:
        """``[B, T, Hx, *shape]`` of an input, ``[Hx, *shape]`` of a parameter."""
        heads = self.heads if isinstance(self.heads, int) else self.heads[tensor.name]
        lead = (self.batch, self.length) if tensor in recurrence.inputs else ()
        return (*lead, heads, *(d.evaluate(self.sizes) for d in tensor.shape))


@dataclass(frozen=True, slots=True)
class Case:
    """Arguments of one call and the cotangents of what it returns.

    ``initial_state`` None stands for an argument that is not given.
    """

    name: str
    geometry: Geometry
    tensors: Mapping[str, Values]
    initial_state: Mapping[str, Values] | None
    output_cotangents: Mapping[str, Values]
    state_cotangents: Mapping[str, Values]

    @property
    def label(self) -> str:
        """Name and length, for tables."""
        return f"{self.name}, T={self.geometry.length}"


def draw(
    recurrence: Recurrence,
    geometry: Geometry,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    case: str = "typical",
    optional: bool = True,
) -> Case:
    """Tensors, non-zero initial states and cotangents, the same for the same arguments.

    Args:
        recurrence: Gives shapes, domains and norms.
        geometry: Sizes of the call.
        dtype: What inputs and parameters are rounded to; states stay in the compute dtype.
        seed: Each tensor draws from a generator of its own.
        case: ``typical`` or a name of ``adversaries.ADVERSARIES``.
        optional: Whether the tensors with a default are given.
    """
    adversary = ADVERSARIES[case]
    names = [x for x in tensors_of(recurrence) if optional or x.default is None]
    drawn = {
        x.name: _typical(x, geometry.shape(recurrence, x), _generator(seed, x.name)) for x in names
    }
    drawn = adversary.change(recurrence, drawn, _generator(seed, case))
    tensors, states = _settled(recurrence, geometry, drawn, dtype, seed)
    heads = head_counts(recurrence, tensors)
    outputs = {
        name: _normal(
            (
                *(geometry.batch, geometry.length, heads.outputs[name]),
                *(d.evaluate(geometry.sizes) for d in node.shape),
            ),
            _generator(seed, f"cotangent {name}"),
        ).to(dtype)
        for name, node in recurrence.outputs
    }
    finals = {
        name: _normal(tuple(x.shape), _generator(seed, f"cotangent {name}")).to(x.dtype)
        for name, x in states.items()
    }
    initial = states if adversary.initial_state else None
    return Case(case, geometry, tensors, initial, outputs, finals)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32, or float64 for float64 inputs: the dtype of states."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _settled(
    recurrence: Recurrence, geometry: Geometry, drawn: Drawn, dtype: torch.dtype, seed: int
) -> tuple[Drawn, Drawn]:
    """Rounded tensors and initial states for which the recurrence stays within reach.

    A state may grow with the unbounded vectors or stand under a root or a logarithm, and
    nothing in a spec says so. Smaller vectors and positive states are tried in turn; where none
    helps, the case is left as it is and the comparison counts it as ill-conditioned.
    """
    tensors, states = drawn, drawn
    for scale in (1.0, 0.5, 0.25, 0.125):
        scaled = {
            x.name: drawn[x.name] * (scale if is_unbounded_vector(x) else 1.0)
            for x in tensors_of(recurrence)
            if x.name in drawn
        }
        tensors = {
            x.name: _inside(x, scaled[x.name].to(dtype))
            for x in tensors_of(recurrence)
            if x.name in drawn
        }
        for positive in (False, True):
            states = _initial_states(recurrence, geometry, tensors, seed)
            states = {
                n: (x.abs() if positive else x).to(compute_dtype(dtype)) for n, x in states.items()
            }
            with torch.no_grad():
                outputs, finals = run(
                    recurrence, tensors, initial_state=states, cu_seqlens=geometry.cu_seqlens
                )
            if all(_within_reach(x) for x in (*outputs.values(), *finals.values())):
                return tensors, states
    return tensors, states


def _within_reach(x: Values) -> bool:
    return bool((x.abs() <= LARGEST).all())


def _initial_states(recurrence: Recurrence, geometry: Geometry, tensors: Drawn, seed: int) -> Drawn:
    heads = head_counts(recurrence, tensors)
    return {
        s.name: _normal(
            (
                *(geometry.sequences, heads.states[s.name]),
                *(d.evaluate(geometry.sizes) for d in s.shape),
            ),
            _generator(seed, f"initial {s.name}"),
        )
        for s in recurrence.states
    }


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {purpose}".encode()))


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Values:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Values:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _typical(tensor: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Values:
    """Values within the domain; 5 % of the entries on its finite closed ends."""
    low, high = tensor.domain.low, tensor.domain.high
    normal = _normal(shape, generator)
    if math.isinf(low) and math.isinf(high):
        x = normal / math.sqrt(shape[-1]) if tensor.shape else normal
    elif math.isinf(low):
        x = high - torch.exp(1.5 * normal - 3.0)
    elif math.isinf(high):
        x = low + torch.exp(normal - 1.0)
    else:
        x = low + (high - low) * _uniform(shape, generator)
    ends = [end for end in closed_ends(tensor.domain) if math.isfinite(end)]
    for end in ends:
        x = torch.where(_uniform(shape, generator) < END_SHARE / len(ends), end, x)
    if tensor.norm is not None:
        x = _of_norm(x, tensor.norm, generator)
    return x


def _of_norm(x: Values, norm: Interval, generator: torch.Generator) -> Values:
    """Rows of a norm within the promise, half of them at its upper end."""
    if math.isinf(norm.high):
        length = norm.low + x.norm(dim=-1, keepdim=True)
    else:
        shape = (*x.shape[:-1], 1)
        length = norm.low + (norm.high - norm.low) * _uniform(shape, generator)
        length = torch.where(_uniform(shape, generator) < 0.5, norm.high, length)
    return torch.nn.functional.normalize(x, dim=-1) * length


def closed_ends(domain: Interval) -> list[float]:
    """The ends that belong to an interval, infinite ones included."""
    low = [domain.low] if domain.includes_low else []
    return low + ([domain.high] if domain.includes_high else [])


def _inside(tensor: Tensor, x: Values) -> Values:
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
