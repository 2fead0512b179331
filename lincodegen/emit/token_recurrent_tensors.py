"""The tensors of a token loop in the order of its arguments, and their head counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lincodegen.errors import EmitError
from lincodegen.program.token_heads import head_sources
from lincodegen.spec.step import Node, Recurrence, Shape

MODULE_NAMES = (
    *("math", "torch", "triton", "tl", "Tensor", "max", "min", "range", "float"),
    *("forward", "backward", "packed_offsets", "sum_groups", "warps_for", "grid"),
)


@dataclass(frozen=True, slots=True)
class Tensors:
    """The tensors of a recurrence, by name and in the order of arguments."""

    recurrence: Recurrence
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    states: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: dict[str, Shape]
    result_shapes: dict[str, Shape]
    partial: frozenset[str]
    partial_results: frozenset[str]
    sources: dict[str, tuple[str, ...]]
    result_sources: dict[str, tuple[str, ...]]

    @staticmethod
    def of(recurrence: Recurrence) -> Tensors:
        """Read them off a recurrence; refuse names that the module needs."""
        inputs = tuple(t.name for t in recurrence.inputs)
        parameters = tuple(t.name for t in recurrence.parameters)
        states, outputs = head_sources(recurrence)
        total = len(inputs) + len(parameters)
        every = (*recurrence.inputs, *recurrence.parameters, *recurrence.states)
        names = [*(t.name for t in every), *(c.name for c in recurrence.constants)]
        if clash := set(MODULE_NAMES).intersection(names):
            raise EmitError(f"`{min(clash)}` may not name a tensor of a generated Triton module")
        return Tensors(
            recurrence,
            inputs,
            parameters,
            tuple(s.name for s in recurrence.states),
            tuple(c.name for c in recurrence.constants),
            tuple(name for name, _ in recurrence.outputs),
            {t.name: t.shape for t in every},
            {name: node.shape for name, node in recurrence.outputs},
            frozenset(n for n, s in states.items() if 0 < len(s) < total),
            frozenset(n for n, s in outputs.items() if 0 < len(s) < total),
            states,
            outputs,
        )

    @property
    def tensors(self) -> tuple[str, ...]:
        """Inputs, then parameters."""
        return (*self.inputs, *self.parameters)

    def heads_text(self, names: Sequence[str]) -> str:
        """The host's expression for the largest head count of some tensors."""
        counts = [f"{n}.shape[{2 if n in self.inputs else 0}]" for n in names]
        return counts[0] if len(counts) == 1 else f"max({', '.join(counts)})"

    def next_states(self) -> list[tuple[str, Node]]:
        """Each state's next value, as outputs of a token program."""
        return [(f"{s}_next", self.recurrence.final(s)) for s in self.states]
