"""What breaks chunked kernels, as changes of typical inputs. Knows promises, no names.

Keys are the vectors that a recurrence compares with one another: those with a norm, else the
unbounded ones that share their last dimension. Log decays are the tensors whose domain ends
at or below 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor as Values

from lincodegen.spec.step import Recurrence, Tensor
from lincodegen.verify.layout import is_unbounded_vector, tensors_of

Drawn: TypeAlias = Mapping[str, Values]
Change: TypeAlias = Callable[[Recurrence, Drawn, torch.Generator], Drawn]
SLOW = -1e-3


@dataclass(frozen=True, slots=True)
class Adversary:
    """A change of typical inputs, whether it concerns a recurrence, and with what state."""

    change: Change
    concerns: Callable[[Recurrence], bool]
    initial_state: bool = True


def applicable(recurrence: Recurrence) -> tuple[str, ...]:
    """Names of the cases that change something for a recurrence, ``typical`` first."""
    return tuple(name for name, adversary in ADVERSARIES.items() if adversary.concerns(recurrence))


def keys(recurrence: Recurrence) -> tuple[Tensor, ...]:
    """The inputs whose directions matter."""
    vectors = [x for x in recurrence.inputs if x.shape]
    with_norm = tuple(x for x in vectors if x.norm is not None)
    free = [x for x in vectors if is_unbounded_vector(x)]
    last = [x.shape[-1] for x in free]
    return with_norm or tuple(x for x in free if last.count(x.shape[-1]) > 1)


def log_decays(recurrence: Recurrence) -> tuple[Tensor, ...]:
    """Inputs and parameters whose exponential is at most 1."""
    return tuple(x for x in tensors_of(recurrence) if x.domain.high <= 0.0)


def _unchanged(_: Recurrence, drawn: Drawn, __: torch.Generator) -> Drawn:
    return drawn


def _aligned(
    recurrence: Recurrence, drawn: Drawn, generator: torch.Generator, *, cosine: float
) -> Drawn:
    """Keys of a given cosine with one common direction, gates at their upper ends.

    That is beta = 2 and no decay where the domains allow it: the products of reflections whose
    triangular solve is worst conditioned.
    """
    changed = dict(_saturated(recurrence, drawn))
    directions: dict[object, Values] = {}
    for key in keys(recurrence):
        if key.name not in drawn:
            continue
        x = drawn[key.name]
        noise = torch.randn(x.shape[-1], generator=generator, dtype=x.dtype)
        common = directions.setdefault(key.shape[-1], noise / noise.norm().clamp(min=1e-30))
        rest = x - (x * common).sum(-1, keepdim=True) * common
        rest = torch.nn.functional.normalize(rest, dim=-1)
        mixed = cosine * common + math.sqrt(1.0 - cosine**2) * rest
        mixed = mixed.abs() if key.domain.low >= 0.0 else mixed
        changed[key.name] = mixed * x.norm(dim=-1, keepdim=True)
    return changed


def _saturated(recurrence: Recurrence, drawn: Drawn) -> Drawn:
    """Every bounded gate at the closed finite upper end of its domain."""
    return {
        x.name: torch.full_like(drawn[x.name], x.domain.high)
        if x.domain.includes_high and math.isfinite(x.domain.high) and x.norm is None
        else drawn[x.name]
        for x in tensors_of(recurrence)
        if x.name in drawn
    }


def _ends(recurrence: Recurrence, drawn: Drawn, generator: torch.Generator) -> Drawn:
    """Bounded tensors take only the closed ends of their domains, an infinite one rarely."""
    changed = dict(drawn)
    for x in tensors_of(recurrence):
        low, high = x.domain.low, x.domain.high
        values = drawn.get(x.name)
        if values is None or x.norm is not None or not _has_closed_end(x):
            continue
        pick = torch.rand(values.shape, generator=generator, dtype=values.dtype)
        if x.domain.includes_high and math.isfinite(high):
            values = torch.full_like(values, high)
        if x.domain.includes_low:
            values = torch.where(pick < (0.5 if math.isfinite(low) else 0.05), low, values)
        changed[x.name] = values
    return changed


def _has_closed_end(x: Tensor) -> bool:
    domain = x.domain
    return domain.includes_low or (domain.includes_high and math.isfinite(domain.high))


def _one_gate(
    recurrence: Recurrence, drawn: Drawn, _: torch.Generator, *, gate: float, rest: float | None
) -> Drawn:
    """One token, at a third of the sequence, with a hard gate; ``rest`` None: typical others."""
    changed = dict(drawn)
    for x in log_decays(recurrence):
        if x.name in drawn:
            values = drawn[x.name].clone() if rest is None else torch.full_like(drawn[x.name], rest)
            token = values[:, values.shape[1] // 3] if x in recurrence.inputs else values[:1]
            if values.numel():
                token.fill_(gate)
            changed[x.name] = values
    return changed


def _some_gates(recurrence: Recurrence, drawn: Drawn, generator: torch.Generator) -> Drawn:
    """A tenth of the entries at -200, the others slow."""
    changed = dict(drawn)
    for x in log_decays(recurrence):
        if x.name in drawn:
            pick = torch.rand(drawn[x.name].shape, generator=generator, dtype=torch.float64)
            changed[x.name] = torch.where(pick < 0.1, -200.0, SLOW).to(drawn[x.name])
    return changed


def _all_gates(recurrence: Recurrence, drawn: Drawn, _: torch.Generator, *, gate: float) -> Drawn:
    gates = {x.name for x in log_decays(recurrence)}
    return {n: torch.full_like(x, gate) if n in gates else x for n, x in drawn.items()}


def _zeros(recurrence: Recurrence, drawn: Drawn, generator: torch.Generator) -> Drawn:
    """Rows of zeros in a third of the tokens of every vector that may be 0; no initial state."""
    changed = dict(drawn)
    for x in recurrence.inputs:
        may = x.domain.low <= 0.0 <= x.domain.high and (x.norm is None or x.norm.low <= 0.0)
        if x.name in drawn and x.shape and may:
            values = drawn[x.name]
            pick = torch.rand(values.shape[:2], generator=generator, dtype=values.dtype) < 1 / 3
            changed[x.name] = values * ~pick.reshape(*pick.shape, *(1,) * (values.ndim - 2))
    return changed


def _always(_: Recurrence) -> bool:
    return True


def _has_keys(recurrence: Recurrence) -> bool:
    return bool(keys(recurrence))


def _has_gates(recurrence: Recurrence) -> bool:
    return bool(log_decays(recurrence))


def _has_ends(recurrence: Recurrence) -> bool:
    return any(_has_closed_end(x) and x.norm is None for x in tensors_of(recurrence))


ADVERSARIES: Mapping[str, Adversary] = {
    "typical": Adversary(_unchanged, _always),
    "identical keys": Adversary(partial(_aligned, cosine=1.0), _has_keys),
    "cosine 0.9": Adversary(partial(_aligned, cosine=0.9), _has_keys),
    "domain ends": Adversary(_ends, _has_ends),
    "gate -inf": Adversary(partial(_one_gate, gate=-math.inf, rest=None), _has_gates),
    "gate -1e8": Adversary(partial(_one_gate, gate=-1e8, rest=SLOW), _has_gates),
    "gates -200": Adversary(_some_gates, _has_gates),
    "gates -5": Adversary(partial(_all_gates, gate=-5.0), _has_gates),
    "gates -30": Adversary(partial(_all_gates, gate=-30.0), _has_gates),
    "gates -69": Adversary(partial(_all_gates, gate=-69.0), _has_gates),
    "zeros": Adversary(_zeros, _always, initial_state=False),
}
