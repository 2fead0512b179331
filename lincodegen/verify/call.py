"""The calling convention of a generated op, and an op of that convention made of the reference.

    o, final_state = op(*tensors, <optional tensors and constants as keywords>,
                        initial_state=..., output_final_state=True, cu_seqlens=...)

Tensors without default come in the spec's order, inputs before parameters. Several outputs or
states make a tuple in the spec's order, one is a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from lincodegen.spec.step import Recurrence
from lincodegen.verify.layout import tensors_of
from lincodegen.verify.reference import run

Packed: TypeAlias = Tensor | tuple[Tensor, ...]
Op: TypeAlias = Callable[..., object]


def call(
    recurrence: Recurrence,
    op: Op,
    tensors: Mapping[str, Tensor],
    initial_state: Mapping[str, Tensor] | None = None,
    cu_seqlens: Tensor | None = None,
    *,
    constants: Mapping[str, float] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and final states by name.

    Raises:
        TypeError: The op returns something else than its convention says.
    """
    required = [x.name for x in tensors_of(recurrence) if x.default is None]
    keywords = {name: x for name, x in tensors.items() if name not in required}
    packed = {} if cu_seqlens is None else {"cu_seqlens": cu_seqlens}
    names = [s.name for s in recurrence.states]
    returned = op(
        *(tensors[name] for name in required),
        **keywords,
        **(constants or {}),
        initial_state=None if initial_state is None else _packed(initial_state, names),
        output_final_state=True,
        **packed,
    )
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(f"an op returns (output, final_state), not {type(returned).__name__}")
    outputs = _unpacked(returned[0], [name for name, _ in recurrence.outputs], "output")
    return outputs, _unpacked(returned[1], names, "final_state")


def naive_op(recurrence: Recurrence) -> Op:
    """The recurrence itself as an op: token by token, computed in float32 or float64.

    It must pass, and it is the baseline that kernels are timed against.
    """
    required = [x.name for x in tensors_of(recurrence) if x.default is None]
    optional = {x.name for x in tensors_of(recurrence) if x.default is not None}
    names = [s.name for s in recurrence.states]

    def op(
        *args: Tensor,
        initial_state: Tensor | Sequence[Tensor | None] | None = None,
        output_final_state: bool = False,
        cu_seqlens: Tensor | None = None,
        **keywords: Tensor | float | None,
    ) -> tuple[Packed, Packed | None]:
        tensors = dict(zip(required, args, strict=True))
        tensors |= {n: x for n, x in keywords.items() if n in optional and isinstance(x, Tensor)}
        constants = {
            n: x for n, x in keywords.items() if not isinstance(x, Tensor) and n not in optional
        }
        double = any(x.dtype == torch.float64 for x in tensors.values())
        dtype = torch.float64 if double else torch.float32
        states = [initial_state] if isinstance(initial_state, Tensor) else initial_state
        outputs, finals = run(
            recurrence,
            tensors,
            constants=constants,
            initial_state=dict(zip(names, states or [None] * len(names), strict=True)),
            cu_seqlens=cu_seqlens,
            dtype=dtype,
        )
        first = next(tensors[x.name] for x in recurrence.inputs if x.name in tensors)
        output = _packed({n: x.to(first.dtype) for n, x in outputs.items()}, list(outputs))
        return output, _packed(finals, names) if output_final_state else None

    return op


def _packed(values: Mapping[str, Tensor], names: list[str]) -> Packed:
    return values[names[0]] if len(names) == 1 else tuple(values[name] for name in names)


def _unpacked(value: object, names: list[str], what: str) -> dict[str, Tensor]:
    parts = (value,) if len(names) == 1 else value
    if not isinstance(parts, tuple) or len(parts) != len(names):
        raise TypeError(f"{what}: expected {len(names)} tensors for {names}")
    found = {n: x for n, x in zip(names, parts, strict=True) if isinstance(x, Tensor)}
    if len(found) != len(names):
        raise TypeError(f"{what}: {sorted(set(names) - set(found))} is no tensor")
    return found
