"""Test inputs drawn from the promises of a spec: domains, norms, shapes. Knows no names.

A case is drawn in float64 on the CPU, rounded to its dtype, and judged by the float64
recurrence on the rounded values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor as Values

from lincodegen.spec.step import Recurrence, Tensor
from lincodegen.verify.adversaries import ADVERSARIES, Drawn
from lincodegen.verify.domains import generator, inside, normal, typical
from lincodegen.verify.layout import head_counts, is_unbounded_vector, tensors_of
from lincodegen.verify.reference import run

HeadCounts: TypeAlias = int | Mapping[str, int]
LARGEST = 1e4
SIGN_TOKENS = 4


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
class Arguments:
    """Which arguments a call gives.

    ``optional`` says whether those with a default; ``constants`` has those that are not left at
    their default; ``scalars`` is the dtype of tensors of one value a token, None: as all.
    """

    optional: bool = True
    constants: Mapping[str, float] = field(default_factory=dict[str, float])
    scalars: torch.dtype | None = None


DEFAULT = Arguments()


@dataclass(frozen=True, slots=True)
class Case:
    """Arguments of one call and the cotangents of what it returns.

    ``initial_state`` None stands for an argument that is not given.
    """

    name: str
    geometry: Geometry
    tensors: Mapping[str, Values]
    constants: Mapping[str, float]
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
    arguments: Arguments = DEFAULT,
) -> Case:
    """Tensors, non-zero initial states and cotangents, the same for the same arguments.

    Args:
        recurrence: Gives shapes, domains and norms.
        geometry: Sizes of the call.
        dtype: What inputs and parameters are rounded to; states stay in the compute dtype.
        seed: Each tensor draws from a generator of its own.
        case: ``typical`` or a name of ``adversaries.ADVERSARIES``.
        arguments: Which arguments are given, and how.
    """
    adversary = ADVERSARIES[case]
    drawn: Drawn = {
        x.name: typical(x, geometry.shape(recurrence, x), generator(seed, x.name))
        for x in tensors_of(recurrence)
        if arguments.optional or x.default is None
    }
    drawn = adversary.change(recurrence, drawn, generator(seed, case))
    tensors, states = _settled(recurrence, geometry, drawn, arguments, (dtype, seed))
    heads = head_counts(recurrence, tensors)
    first = next(tensors[x.name].dtype for x in recurrence.inputs if x.name in tensors)
    outputs = {
        name: normal(
            (
                *(geometry.batch, geometry.length, heads.outputs[name]),
                *(d.evaluate(geometry.sizes) for d in node.shape),
            ),
            generator(seed, f"cotangent {name}"),
        ).to(first)
        for name, node in recurrence.outputs
    }
    finals = {
        name: normal(tuple(x.shape), generator(seed, f"cotangent {name}")).to(x.dtype)
        for name, x in states.items()
    }
    return Case(
        case,
        geometry,
        tensors,
        arguments.constants,
        states if adversary.initial_state else None,
        outputs,
        finals,
    )


def _settled(
    recurrence: Recurrence,
    geometry: Geometry,
    drawn: Drawn,
    arguments: Arguments,
    rounding: tuple[torch.dtype, int],
) -> tuple[Drawn, Drawn]:
    """Rounded tensors and initial states for which the recurrence stays within reach.

    A state may grow with the unbounded vectors or stand under a root or a logarithm, and
    nothing in a spec says so. Smaller vectors and positive states are tried in turn; where none
    helps, the case is left as it is and the comparison counts it as ill-conditioned.
    """
    dtype, seed = rounding
    tensors, states = drawn, drawn
    for scale in (1.0, 0.5, 0.25, 0.125):
        tensors = _rounded(recurrence, drawn, scale, dtype, arguments.scalars or dtype)
        states = _initial_states(recurrence, geometry, tensors, seed)
        for candidate in (states, {name: x.abs() for name, x in states.items()}):
            states = candidate
            with torch.no_grad():
                outputs, finals = run(
                    recurrence,
                    tensors,
                    constants=arguments.constants,
                    initial_state=states,
                    cu_seqlens=geometry.cu_seqlens,
                )
            if all(_within_reach(x) for x in (*outputs.values(), *finals.values())):
                return tensors, states
    return tensors, states


def _rounded(
    recurrence: Recurrence,
    drawn: Drawn,
    scale: float,
    dtype: torch.dtype,
    scalars: torch.dtype,
) -> Drawn:
    """Unbounded vectors scaled, all within their promises; scalars in a dtype of their own."""
    tensors: dict[str, Values] = {}
    for x in tensors_of(recurrence):
        if x.name in drawn:
            value = drawn[x.name] * (scale if is_unbounded_vector(x) else 1.0)
            tensors[x.name] = inside(x, value.to(dtype if x.shape else scalars))
    return tensors


def _within_reach(x: Values) -> bool:
    return bool((x.abs() <= LARGEST).all())


def _initial_states(
    recurrence: Recurrence, geometry: Geometry, tensors: Drawn, seed: int
) -> dict[str, Values]:
    """N(0, 1) in the compute dtype: float64 where any tensor is, else float32.

    A state that no token makes negative, such as a normaliser's sum of non-negative keys, is
    not drawn negative: its read could cancel to nearly 0, which no sequence can bring about.
    """
    heads = head_counts(recurrence, tensors)
    double = any(x.dtype == torch.float64 for x in tensors.values())
    signs = _signs(recurrence, tensors)
    states: dict[str, Values] = {}
    for s in recurrence.states:
        size = (d.evaluate(geometry.sizes) for d in s.shape)
        shape = (geometry.sequences, heads.states[s.name], *size)
        x = normal(shape, generator(seed, f"initial {s.name}"))
        x = signs[s.name] * x.abs() if s.name in signs else x
        states[s.name] = x.to(torch.float64 if double else torch.float32)
    return states


def _signs(recurrence: Recurrence, tensors: Drawn) -> dict[str, int]:
    """1 or -1 for the states that a few tokens leave without an entry of the other sign."""
    names = {x.name for x in recurrence.inputs}
    few = {n: x[:, :SIGN_TOKENS] if n in names else x for n, x in tensors.items()}
    with torch.no_grad():
        _, finals = run(recurrence, few)
    nonzero = {name: x for name, x in finals.items() if bool((x != 0).any())}
    signs = {name: 1 for name, x in nonzero.items() if bool((x >= 0).all())}
    return signs | {name: -1 for name, x in nonzero.items() if bool((x <= 0).all())}
