"""Ways to run an op that change nothing: each must pass what the op itself must pass.

A property takes a call and gives a call of the same convention that does the work in
pieces or on differently laid out tensors. Gradients flow through, so forward and backward
are both put to the test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from lincodegen.spec.step import Recurrence
from lincodegen.verify.layout import head_counts

Named: TypeAlias = Mapping[str, Tensor]
Results: TypeAlias = tuple[dict[str, Tensor], dict[str, Tensor]]


class Call(Protocol):
    """An op by name: tensors, initial states and offsets to outputs and final states."""

    def __call__(
        self,
        tensors: Named,
        initial_state: Named | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Results:
        """Run the op."""
        ...


Property: TypeAlias = Callable[[Recurrence, Call], Call]


def split(recurrence: Recurrence, call: Call) -> Call:
    """Two pieces, the state carried from the first to the second."""

    def run(
        tensors: Named, initial_state: Named | None = None, cu_seqlens: Tensor | None = None
    ) -> Results:
        length = _length(recurrence, tensors)
        pieces = _cut(recurrence, tensors, [length // 3, length - length // 3])
        first, carried = call(pieces[0], initial_state)
        second, final = call(pieces[1], carried)
        return {name: torch.cat([x, second[name]], 1) for name, x in first.items()}, final

    return run


def by_batch(recurrence: Recurrence, call: Call) -> Call:
    """Each batch entry alone."""

    def run(
        tensors: Named, initial_state: Named | None = None, cu_seqlens: Tensor | None = None
    ) -> Results:
        inputs = _input_names(recurrence)
        batch = next(x.shape[0] for name, x in tensors.items() if name in inputs)
        runs = [
            call(
                {n: x[b : b + 1] if n in inputs else x for n, x in tensors.items()},
                None if initial_state is None else _rows(initial_state, b),
            )
            for b in range(batch)
        ]
        return _joined([o for o, _ in runs], 0), _joined([s for _, s in runs], 0)

    return run


def by_head(recurrence: Recurrence, call: Call) -> Call:
    """Each head alone; tensors, states and outputs with fewer heads take part repeatedly."""

    def run(
        tensors: Named, initial_state: Named | None = None, cu_seqlens: Tensor | None = None
    ) -> Results:
        heads = head_counts(recurrence, tensors)
        most = max(*heads.states.values(), *heads.outputs.values())
        inputs = _input_names(recurrence)
        states = initial_state or {}
        runs = [
            call(
                {n: _head(x, 2 if n in inputs else 0, h, most) for n, x in tensors.items()},
                {n: _head(x, 1, h, most) for n, x in states.items()} if states else None,
            )
            for h in range(most)
        ]
        outputs = {
            n: torch.cat([o[n] for o, _ in runs[:: most // heads.outputs[n]]], 2)
            for n in runs[0][0]
        }
        finals = {
            n: torch.cat([s[n] for _, s in runs[:: most // heads.states[n]]], 1) for n in runs[0][1]
        }
        return outputs, finals

    return run


def by_sequence(recurrence: Recurrence, call: Call) -> Call:
    """Packed sequences as separate runs."""

    def run(
        tensors: Named, initial_state: Named | None = None, cu_seqlens: Tensor | None = None
    ) -> Results:
        if cu_seqlens is None:
            return call(tensors, initial_state)
        lengths = [int(stop) - int(start) for start, stop in pairwise(cu_seqlens)]
        runs = [
            call(piece, None if initial_state is None else _rows(initial_state, n))
            for n, piece in enumerate(_cut(recurrence, tensors, lengths))
        ]
        return _joined([o for o, _ in runs], 1), _joined([s for _, s in runs], 0)

    return run


def strided(recurrence: Recurrence, call: Call) -> Call:
    """Every tensor a window of a larger one that is NaN elsewhere, its first axes exchanged.

    The gradients that come in are windows of larger ones, too.
    """

    def run(
        tensors: Named, initial_state: Named | None = None, cu_seqlens: Tensor | None = None
    ) -> Results:
        states = (
            None if initial_state is None else {n: _window(x) for n, x in initial_state.items()}
        )
        outputs, finals = call({n: _window(x) for n, x in tensors.items()}, states, cu_seqlens)
        return {n: _cut_out(x) for n, x in outputs.items()}, {
            n: _cut_out(x) for n, x in finals.items()
        }

    return run


PROPERTIES: Mapping[str, Property] = {
    "split": split,
    "by batch": by_batch,
    "by head": by_head,
    "by sequence": by_sequence,
    "strided": strided,
}


def _window(x: Tensor) -> Tensor:
    """The same values, not contiguous: one more entry on each side of every axis."""
    larger = torch.full([n + 2 for n in x.shape], torch.nan, dtype=x.dtype, device=x.device)
    larger = larger.transpose(0, 1).contiguous().transpose(0, 1) if x.ndim > 1 else larger
    inner = tuple(slice(1, 1 + n) for n in x.shape)
    return larger.index_put(_grid(inner, x), x)[inner]


def _cut_out(x: Tensor) -> Tensor:
    """The same values; the gradient arrives as a slice of one with a longer last axis."""
    return torch.cat([x, x[..., :1]], -1)[..., :-1]


def _grid(inner: tuple[slice, ...], x: Tensor) -> tuple[Tensor, ...]:
    axes = [torch.arange(s.start, s.stop, device=x.device) for s in inner]
    return tuple(torch.meshgrid(*axes, indexing="ij"))


def _input_names(recurrence: Recurrence) -> frozenset[str]:
    return frozenset(x.name for x in recurrence.inputs)


def _length(recurrence: Recurrence, tensors: Named) -> int:
    return next(tensors[n].shape[1] for n in tensors if n in _input_names(recurrence))


def _cut(recurrence: Recurrence, tensors: Named, lengths: list[int]) -> list[dict[str, Tensor]]:
    """Consecutive tokens; parameters take part in every piece."""
    names = _input_names(recurrence)
    pieces = {n: torch.split(x, lengths, 1) for n, x in tensors.items() if n in names}
    rest = {n: x for n, x in tensors.items() if n not in names}
    return [rest | {n: parts[i] for n, parts in pieces.items()} for i in range(len(lengths))]


def _rows(values: Named, row: int) -> dict[str, Tensor]:
    return {name: x[row : row + 1] for name, x in values.items()}


def _head(x: Tensor, axis: int, head: int, most: int) -> Tensor:
    return x.narrow(axis, head // (most // x.shape[axis]), 1)


def _joined(parts: list[dict[str, Tensor]], axis: int) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts], axis) for name in parts[0]}
