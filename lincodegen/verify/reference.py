"""The oracle: a recurrence run token by token, differentiable by autograd.

Reads the Recurrence and nothing of the compiler, so that a mistake of a derivation cannot
cancel. Every value is a tensor ``[batch, heads, *shape]`` of one token; batch and heads are
1 where the value does not depend on them. Layouts: inputs ``[B, T, Hx, *shape]``, parameters
``[Hx, *shape]``, states ``[N, H_state, *shape]``, outputs ``[B, T, H_output, *shape]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from lincodegen.spec.step import LEAVES, Node, Recurrence
from lincodegen.verify.attributes import dims_of, index_of, name_of, number_of
from lincodegen.verify.functions import Arithmetic, apply, repeat_heads, widen
from lincodegen.verify.layout import (
    Heads,
    check_tensors,
    dimension_sizes,
    head_counts,
    tensors_of,
)

Order: TypeAlias = tuple[Node, ...]


def run(
    recurrence: Recurrence,
    tensors: Mapping[str, Tensor],
    *,
    constants: Mapping[str, float | None] | None = None,
    initial_state: Mapping[str, Tensor | None] | None = None,
    cu_seqlens: Sequence[int] | Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    operands: torch.dtype | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The outputs and the final states by name, all in ``dtype``.

    Args:
        recurrence: The token program.
        tensors: Inputs and parameters by name; those with a default may be left out.
        constants: Values of the float constants; None or absent is the default expression.
        initial_state: Values before the first token, ``[N, H_state, *shape]``; zero if absent.
        cu_seqlens: Offsets of packed sequences, 0 first and T last; B is 1, N their number.
        dtype: Everything is computed in it.
        operands: What operands of matrix products, dot and outer are rounded to, None: not at
            all. So rounds a kernel on tensor cores, which keeps the rest in float32.

    Raises:
        ValueError: A tensor is unknown, missing or of a shape that does not fit.
    """
    check_tensors(recurrence, tensors)
    given = {name: x.to(dtype) for name, x in tensors.items()}
    loop = _TokenLoop.of(recurrence, given, constants or {}, operands)
    batch, length = next(given[x.name].shape[:2] for x in recurrence.inputs if x.name in given)
    offsets = None if cu_seqlens is None else [int(n) for n in cu_seqlens]
    count = batch if offsets is None else len(offsets) - 1
    states = loop.initial_states(count, initial_state or {})
    inputs = {x.name: given[x.name] for x in recurrence.inputs if x.name in given}
    if offsets is None:
        return loop.run(inputs, states, batch, length)
    if batch != 1 or count < 1 or offsets[0] != 0 or offsets[-1] != length:
        raise ValueError(f"cu_seqlens {offsets}: B = 1 and offsets from 0 to {length} expected")
    lengths = [stop - start for start, stop in pairwise(offsets)]
    pieces = {name: torch.split(x, lengths, 1) for name, x in inputs.items()}
    runs = [
        loop.run(
            {name: parts[n] for name, parts in pieces.items()},
            {name: x[n : n + 1] for name, x in states.items()},
            1,
            lengths[n],
        )
        for n in range(count)
    ]
    outputs = {name: torch.cat([o[name] for o, _ in runs], 1) for name, _ in recurrence.outputs}
    return outputs, {name: torch.cat([final[name] for _, final in runs]) for name in states}


@dataclass(frozen=True, slots=True)
class _TokenLoop:
    """The step with everything filled in that no token changes.

    ``fixed`` has the values of constants, parameters and defaults by name, ``order`` the
    nodes of each statement with operands first.
    """

    recurrence: Recurrence
    sizes: Mapping[str, int]
    heads: Heads
    arithmetic: Arithmetic
    order: tuple[Order, ...]
    fixed: dict[str | int, Tensor]

    @staticmethod
    def of(
        recurrence: Recurrence,
        given: Mapping[str, Tensor],
        constants: Mapping[str, float | None],
        operands: torch.dtype | None,
    ) -> _TokenLoop:
        """Read sizes and heads off the tensors; evaluate constants, then defaults."""
        zero = next(iter(given.values())).new_zeros(())
        sizes, heads = dimension_sizes(recurrence, given), head_counts(recurrence, given)
        order = tuple(tuple(assign.value.walk()) for assign in recurrence.step)
        roots = order + tuple(tuple(node.walk()) for _, node in recurrence.outputs)
        guarded = any(node.op == "where" for nodes in roots for node in nodes)
        arithmetic = Arithmetic(zero, guarded, operands)
        loop = _TokenLoop(recurrence, sizes, heads, arithmetic, order, {})
        for constant in recurrence.constants:
            value = constants.get(constant.name)
            loop.fixed[constant.name] = (
                loop.evaluate(tuple(constant.default.walk()), loop.fixed)
                if value is None
                else zero.new_full((1, 1), value)
            )
        for parameter in recurrence.parameters:
            if parameter.name in given:
                loop.fixed[parameter.name] = given[parameter.name][None]
        for tensor in tensors_of(recurrence):
            if tensor.name not in given and tensor.default is not None:
                count = heads.tensors[tensor.name]
                index = torch.arange(count, dtype=zero.dtype, device=zero.device)[None]
                leaves = {**loop.fixed, "h": index, "H": zero.new_full((1, 1), count)}
                value = loop.evaluate(tuple(tensor.default.walk()), leaves)
                value = widen(value, len(tensor.default.shape), len(tensor.shape))
                shape = (d.evaluate(sizes) for d in tensor.shape)
                loop.fixed[tensor.name] = value.expand(1, count, *shape)
        return loop

    def initial_states(self, count: int, given: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """``[count, H_state, *shape]`` of each state."""
        unknown = set(given) - {state.name for state in self.recurrence.states}
        if unknown:
            raise ValueError(f"initial {', '.join(sorted(unknown))}: no such state")
        states: dict[str, Tensor] = {}
        for state in self.recurrence.states:
            size = (d.evaluate(self.sizes) for d in state.shape)
            shape = (count, self.heads.states[state.name], *size)
            value = given.get(state.name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"initial {state.name}: {tuple(value.shape)}, expected {shape}")
            states[state.name] = (
                self.arithmetic.zero.expand(shape)
                if value is None
                else value.to(self.arithmetic.zero)
            )
        return states

    def run(
        self, inputs: Mapping[str, Tensor], states: dict[str, Tensor], batch: int, length: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One sequence a batch entry: outputs ``[B, T, H, *shape]`` and final states."""
        tokens = {name: x.unbind(1) for name, x in inputs.items()}
        shapes = {name: x.shape for name, x in states.items()}
        collected: dict[str, list[Tensor]] = {name: [] for name, _ in self.recurrence.outputs}
        for t in range(length):
            values = {**self.fixed, **{name: x[t] for name, x in tokens.items()}}
            values |= {f"state {name}": x for name, x in states.items()}
            for i, assign in enumerate(self.recurrence.step):
                values[i] = self.evaluate(self.order[i], values)
                if assign.state:
                    value = repeat_heads(values[i], shapes[assign.name][1])
                    states = {**states, assign.name: value.expand(shapes[assign.name])}
            for name, node in self.recurrence.outputs:
                value = self.evaluate(tuple(node.walk()), values)
                value = repeat_heads(value, self.heads.outputs[name])
                collected[name].append(value.expand(batch, *value.shape[1:]))
        outputs = {
            name: torch.stack(collected[name], 1)
            if length
            else self.arithmetic.zero.new_zeros(
                batch, 0, self.heads.outputs[name], *(d.evaluate(self.sizes) for d in node.shape)
            )
            for name, node in self.recurrence.outputs
        }
        return outputs, states

    def evaluate(self, order: Order, leaves: Mapping[str | int, Tensor]) -> Tensor:
        """The last node's value; leaves by a tensor's name, ``"state S"``, a statement's index."""
        values: dict[int, Tensor] = {}
        for node in order:
            if node.op in LEAVES:
                values[id(node)] = self._leaf(node, leaves)
            else:
                args = [values[id(arg)] for arg in node.args]
                values[id(node)] = apply(node, args, self.sizes, self.arithmetic)
        return values[id(order[-1])]

    def _leaf(self, node: Node, leaves: Mapping[str | int, Tensor]) -> Tensor:
        if node.op == "number":
            return self.arithmetic.zero.new_full((1, 1), number_of(node))
        if node.op == "size":
            (size,) = dims_of(node)
            return self.arithmetic.zero.new_full((1, 1), size.evaluate(self.sizes))
        if node.op == "ref":
            return leaves[index_of(node)]
        return leaves[f"state {name_of(node)}" if node.op == "state" else name_of(node)]
