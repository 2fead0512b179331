"""The matrix that a segment with erasures maps a state by: the op itself, writing nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from lincodegen.runtime.heads import STATE_AXIS, repeat_heads, take_heads
from lincodegen.runtime.sizes import evaluate

if TYPE_CHECKING:
    from lincodegen.runtime.call import Call
    from lincodegen.runtime.segments import SegmentMap
    from lincodegen.runtime.signature import State


class Erasures(NamedTuple):
    """The op without its writes, started from the identity.

    The state holds as many columns of the identity as it has columns itself. Where these are
    fewer than the rows, each head becomes ``copies`` of them, which hold one block each.

    Attributes:
        call: the segment's call of the op.
        segment: the map of the state.
        place: the state's place among the op's.
        finals: gives the final states of the op with some arguments replaced.
    """

    call: Call
    segment: SegmentMap
    place: int
    finals: Callable[[Mapping[str, object]], tuple[Tensor, ...]]

    def matrix(self, local: Tensor) -> Tensor:
        """M [N, H, R, R]; ``local`` is the final state from zeros."""
        call = self.call
        rows, columns = self._shape()
        copies = -(-rows // columns)
        own = call.heads[f"state {self._state.name}"]
        heads = own if copies == 1 else max(call.heads.values())
        eye = torch.eye(rows, dtype=call.dtype, device=call.device)
        blocks = pad(eye, (0, copies * columns - rows)).unflatten(1, (copies, columns))
        start = blocks.movedim(1, 0).repeat(heads, 1, 1).expand(call.sequences, -1, -1, -1)
        final = self._run(start, copies)
        if self.segment.written:
            final = final - self._canonical(repeat_heads(local, final.shape[1], STATE_AXIS))
        final = final.unflatten(1, (heads, copies)).movedim(2, 3).flatten(3, 4)[..., :rows]
        return take_heads(final, own, STATE_AXIS)

    @property
    def _state(self) -> State:
        return self.call.signature.states[self.place]

    def _shape(self) -> tuple[int, int]:
        """Rows of the state, which the map acts on, and the columns that it is run with."""
        sizes = [evaluate(s, self.call.sizes) for s in self._state.shape]
        rows = sizes.pop(self.segment.axis)
        if self.segment.columns:
            return rows, rows
        return rows, sizes[0] if sizes else 1

    def _canonical(self, x: Tensor) -> Tensor:
        """A state as [..., rows, columns]."""
        if len(self._state.shape) == 1:
            return x[..., None]
        return x.mT if self.segment.axis else x

    def _run(self, start: Tensor, copies: int) -> Tensor:
        """The final state from [N, H, rows, columns]."""
        if len(self._state.shape) == 1:
            start = start[..., 0]
        elif self.segment.axis:
            start = start.mT
        states: list[Tensor | None] = [None] * len(self.call.signature.states)
        states[self.place] = start
        initial = states[0] if len(states) == 1 else tuple(states)
        finals = self.finals({**self._tensors(copies), "initial_state": initial})
        return self._canonical(finals[self.place])

    def _tensors(self, copies: int) -> dict[str, Tensor]:
        """The tensors, zeros in the place of those that are only written.

        One of them has the heads that the copies make, the others stand for repeated heads.
        """
        call, zeroed = self.call, self.segment.zeroed
        sizes = {**call.sizes, **dict.fromkeys([self.segment.columns], self._shape()[0])}
        updates = self._state.updates
        carrier = next((n for n in zeroed if n in updates), updates[0]) if copies > 1 else ""
        given = {}
        for argument in (*call.signature.inputs, *call.signature.parameters):
            x = call.tensors[argument.name]
            if x is None:
                continue
            if argument.name in zeroed:
                shape = (evaluate(s, sizes) for s in argument.shape)
                x = x.new_zeros(()).expand(*x.shape[:3], *shape)
            if argument.name == carrier:
                x = repeat_heads(x, copies * max(call.heads.values()))
            given[argument.name] = x if argument in call.signature.inputs else x[0, 0]
        return given
