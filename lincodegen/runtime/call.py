"""One call of a generated op: what its arguments say, and how the op's text sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from lincodegen.runtime.heads import (
    STATE_AXIS,
    TOKEN_AXIS,
    grouped,
    head_groups,
    place_heads,
    repeat_heads,
    sum_heads,
    take_heads,
    ungrouped,
)
from lincodegen.runtime.lazy import Lazy
from lincodegen.runtime.sizes import evaluate

if TYPE_CHECKING:
    from lincodegen.runtime.blocks import Cut
    from lincodegen.runtime.packing import PackedChunks, Packing
    from lincodegen.runtime.signature import Signature
    from lincodegen.runtime.tuned import Chosen

Result = TypeVar("Result")

States: TypeAlias = Tensor | Sequence[Tensor | None] | None

blocks = Lazy("lincodegen.runtime.blocks")

LEAST_CHUNK = 16
"""A dot of a kernel takes no fewer rows."""


def cast_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x.to(dtype)``, which costs even where there is nothing to do."""
    return x if x.dtype == dtype else x.to(dtype)


class Layout(SimpleNamespace):
    """What the shapes, dtypes and devices of a call's arguments say, and what follows from it.

    The latter is worked out once for all like calls.

    Attributes:
        signature: that of the op.
        batch: entries of the batch axis.
        length: tokens of an entry.
        sizes: the dimensions by name.
        heads: by the keys of ``Signature``.
        dtype: the compute dtype.
        output_dtype: that of the first input.
        device: where every tensor lies.
        backend: the form that runs: ``"triton"`` or ``"torch"``.
        chunk_limit: the most tokens of a chunk.
        tuned: the configuration that a table has for such calls.
        packed: whether sequences are packed.
    """

    signature: Signature
    batch: int
    length: int
    sizes: Mapping[str, int]
    heads: Mapping[str, int]
    dtype: torch.dtype
    output_dtype: torch.dtype
    device: torch.device
    backend: str
    chunk_limit: int
    tuned: Chosen | None
    packed: bool

    def changed(self, **facts: object) -> Layout:
        """The layout with other facts; all else follows from them anew."""
        own = {name: vars(self)[name] for name in Layout.__annotations__}
        return Layout(**{**own, **facts})

    @cached_property
    def chunk_size(self) -> int:
        """Tokens a chunk: the limit, fewer for a shorter sequence."""
        least = LEAST_CHUNK if self.backend == "triton" else 1
        fitting = 1 << max(0, self.length - 1).bit_length()
        return min(self.chunk_limit, max(least, fitting))

    @cached_property
    def cut(self) -> Cut | None:
        """How the PyTorch form goes over the call on a CPU; None: all of it at once."""
        if self.backend != "torch" or self.device.type != "cpu":
            return None
        return blocks.cut_of(self)

    @cached_property
    def looped(self) -> Layout:
        """As the token loop takes it: states with the heads that their updates have.

        A state that depends on no tensor has those of every other value.
        """
        most = max(self.heads.values())
        states = self.signature.states
        own = {s.name: self.heads[f"state {s.name}"] if s.updates else most for s in states}
        heads = {**self.heads, **{f"solved {n}": h for n, h in own.items()}}
        return self.changed(heads=heads)

    @cached_property
    def output_heads(self) -> tuple[int, ...]:
        """Heads of every output by the spec."""
        return tuple(self.heads[f"output {o.name}"] for o in self.signature.outputs)

    @cached_property
    def state_heads(self) -> tuple[int, ...]:
        """Heads of every state as it is handed on."""
        return tuple(self.heads[f"state {s.name}"] for s in self.signature.states)

    @cached_property
    def solved_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Heads and sizes of every state as it is computed with."""
        return tuple(
            (self.heads[f"solved {s.name}"], *(evaluate(n, self.sizes) for n in s.shape))
            for s in self.signature.states
        )


class Call:
    """Arguments of a call and what was read off them.

    ``tensors`` are by name, parameters as [1, 1, Hx, *shape], None where a default stands in
    for one.
    """

    __slots__ = ("layout", "packing", "states", "tensors")

    def __init__(
        self,
        layout: Layout,
        tensors: dict[str, Tensor | None],
        states: tuple[Tensor | None, ...],
        packing: Packing | None = None,
    ) -> None:
        self.layout, self.tensors, self.states, self.packing = layout, tensors, states, packing

    @property
    def signature(self) -> Signature:
        """What the op takes and gives."""
        return self.layout.signature

    @property
    def batch(self) -> int:
        """Entries of the batch axis."""
        return self.layout.batch

    @property
    def length(self) -> int:
        """Tokens of an entry."""
        return self.layout.length

    @property
    def sizes(self) -> Mapping[str, int]:
        """The dimensions by name."""
        return self.layout.sizes

    @property
    def heads(self) -> Mapping[str, int]:
        """Heads by the keys of ``Signature``."""
        return self.layout.heads

    @property
    def dtype(self) -> torch.dtype:
        """The compute dtype."""
        return self.layout.dtype

    @property
    def output_dtype(self) -> torch.dtype:
        """The dtype of the first input."""
        return self.layout.output_dtype

    @property
    def device(self) -> torch.device:
        """Where every tensor lies."""
        return self.layout.device

    @property
    def backend(self) -> str:
        """The form that runs: ``"triton"`` or ``"torch"``."""
        return self.layout.backend

    def bare(self) -> Call:
        """The call without its tensors."""
        return Call(self.layout, dict.fromkeys(self.tensors), (), self.packing)

    @property
    def chunk_size(self) -> int:
        """Tokens a chunk."""
        return self.layout.chunk_size

    @property
    def chunking(self) -> tuple[int] | tuple[int, PackedChunks]:
        """What a chunk form takes last: tokens a chunk and, in kernels, the packed chunks."""
        if self.packing is None:
            return (self.chunk_size,)
        return self.chunk_size, self.packing.chunks(self.length, self.chunk_size)

    @property
    def offsets(self) -> tuple[()] | tuple[Tensor]:
        """What a token loop takes last: the rows at which packed sequences start."""
        return () if self.packing is None else (self.packing.cu_seqlens,)

    @property
    def sequences(self) -> int:
        """How many sequences, each with its states."""
        return self.batch if self.packing is None else self.packing.sequences

    def alone(self, length: int) -> Call:
        """The call of one packed sequence by itself."""
        layout = self.layout.changed(length=length, packed=False)
        return Call(layout, self.tensors, self.states)

    @property
    def empty(self) -> bool:
        """Whether there is no token at all."""
        return self.batch == 0 or self.length == 0

    # -- what the text of an op asks for ----------------------------------------------------

    def fill(self, name: str, default: Callable[[Tensor, Tensor], Tensor | float]) -> None:
        """Gives a tensor that is absent its default, a function of head index and head count."""
        if self.tensors[name] is not None:
            return
        count = self.heads[name]
        index = torch.arange(count, dtype=torch.float64, device=self.device)
        value = default(index, torch.full_like(index, count))
        value = value if isinstance(value, Tensor) else index.new_full((), value)
        arguments = (*self.signature.inputs, *self.signature.parameters)
        shape = next(x.shape for x in arguments if x.name == name)
        value = value.expand(count, *(evaluate(s, self.sizes) for s in shape))
        self.tensors[name] = value.to(self.dtype)[None, None]

    def per_token(
        self, function: Callable[..., Result], *arguments: Tensor | float, alike: bool = False
    ) -> Result:
        """What a function of one token gives, for all tokens, in the compute dtype.

        Tensors [B, T, Hx, *shape] with fewer heads broadcast; a result has the heads of those that
        it depends on. They arrive contiguous, so that what is summed over an axis has the same
        bits for every layout.

        Args:
            function: of tensors and numbers, one result or several.
            arguments: those of the function.
            alike: Whether the tensors arrive with all heads, as views: not everything broadcasts.
        """
        given = [x.to(self.dtype).contiguous() if isinstance(x, Tensor) else x for x in arguments]
        groups = head_groups(x.shape[TOKEN_AXIS] for x in given if isinstance(x, Tensor))
        split = [grouped(x, groups, alike) if isinstance(x, Tensor) else x for x in given]
        results = function(*split)
        if len(groups) < 2:
            return results
        if isinstance(results, tuple):
            several = cast("tuple[Tensor, ...]", results)
            return cast("Result", tuple(ungrouped(x, groups) for x in several))
        return ungrouped(results, groups)

    def narrow(self, x: Tensor) -> Tensor:
        """A computed factor of matrix products, in the first input's dtype as the others are."""
        rounded = x.to(self.output_dtype)
        return rounded if self.backend == "triton" else rounded.to(self.dtype)

    def spread(self, x: Tensor | float, rank: int = 0) -> Tensor:
        """A value of ``rank`` own axes that no token changes as [B, T, Hx, ...]."""
        if not isinstance(x, Tensor):
            x = torch.tensor(x, dtype=self.dtype, device=self.device)
        heads = x.shape[-rank - 1] if x.dim() > rank else 1
        return x.expand(self.batch, self.length, heads, *x.shape[x.dim() - rank :])

    def looped(self) -> Call:
        """The call as the token loop takes it."""
        return Call(self.layout.looped, self.tensors, self.states, self.packing)

    # -- states and outputs at the boundary -------------------------------------------------

    def entered(self, states: Sequence[Tensor | None]) -> list[Tensor]:
        """Initial states as they are computed with, zeros where none is given."""
        layout, count = self.layout, self.sequences
        dtype, device = layout.dtype, layout.device
        return [
            torch.zeros((count, *shape), dtype=dtype, device=device)
            if x is None
            else repeat_heads(x.to(dtype), shape[0], STATE_AXIS)
            for shape, x in zip(layout.solved_shapes, states, strict=True)
        ]

    def left_outputs(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs with as many heads as they have by the spec, in the first input's dtype."""
        layout = self.layout
        pairs = zip(outputs, layout.output_heads, strict=True)
        return [cast_to(take_heads(x, heads), layout.output_dtype) for x, heads in pairs]

    def left(self, finals: Sequence[Tensor]) -> list[Tensor]:
        """Final states with as many heads as the states have."""
        pairs = zip(finals, self.layout.state_heads, strict=True)
        return [take_heads(x, heads, STATE_AXIS).contiguous() for x, heads in pairs]

    def left_adjoint(self, d_finals: Sequence[Tensor]) -> list[Tensor]:
        """The adjoint of ``left``."""
        pairs = zip(d_finals, self.layout.solved_shapes, strict=True)
        return [place_heads(dx.to(self.dtype), shape[0], STATE_AXIS) for dx, shape in pairs]

    def entered_adjoint(self, d_states: Sequence[Tensor]) -> list[Tensor]:
        """The adjoint of ``entered``."""
        pairs = zip(d_states, self.layout.state_heads, strict=True)
        return [sum_heads(dx, heads, STATE_AXIS) for dx, heads in pairs]

    def no_outputs(self) -> tuple[Tensor, ...]:
        """The outputs of no token."""
        return tuple(
            torch.empty(
                self.batch,
                self.length,
                self.heads[f"output {o.name}"],
                *(evaluate(s, self.sizes) for s in o.shape),
                dtype=self.dtype,
                device=self.device,
            )
            for o in self.signature.outputs
        )
