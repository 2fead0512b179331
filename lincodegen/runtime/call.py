"""One call of a generated op: what its arguments say, and how the op's text sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar, cast

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
from lincodegen.runtime.sizes import evaluate

if TYPE_CHECKING:
    from lincodegen.runtime.packing import PackedChunks, Packing
    from lincodegen.runtime.signature import Signature
    from lincodegen.runtime.tuned import Chosen

Result = TypeVar("Result")

States: TypeAlias = Tensor | Sequence[Tensor | None] | None


LEAST_CHUNK = 16
"""A dot of a kernel takes no fewer rows."""


def cast_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x.to(dtype)``, which costs even where there is nothing to do."""
    return x if x.dtype == dtype else x.to(dtype)


class Layout(NamedTuple):
    """What the shapes, dtypes and devices of a call's arguments say.

    ``heads`` are by the keys of ``Signature``; ``dtype`` is the compute dtype, ``output_dtype``
    that of the first input. ``chunk_limit`` is the most tokens of a chunk, ``tuned`` the
    configuration that a table has for such calls.
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


class Call(NamedTuple):
    """Arguments of a call and what was read off them.

    ``tensors`` are by name, parameters as [1, 1, Hx, *shape], None where a default stands in
    for one.
    """

    layout: Layout
    tensors: dict[str, Tensor | None]
    states: tuple[Tensor | None, ...]
    packing: Packing | None = None

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
        """Tokens a chunk: the limit, fewer for a shorter sequence."""
        least = LEAST_CHUNK if self.backend == "triton" else 1
        fitting = 1 << max(0, self.length - 1).bit_length()
        return min(self.layout.chunk_limit, max(least, fitting))

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
        return Call(self.layout._replace(length=length), self.tensors, self.states)

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
        """The call as the token loop takes it: states with the heads that their updates have.

        A state that depends on no tensor has those of every other value.
        """
        most = max(self.heads.values())
        states = self.signature.states
        own = {s.name: self.heads[f"state {s.name}"] if s.updates else most for s in states}
        heads = {**self.heads, **{f"solved {n}": h for n, h in own.items()}}
        return self._replace(layout=self.layout._replace(heads=heads))

    # -- states and outputs at the boundary -------------------------------------------------

    def entered(self) -> list[Tensor]:
        """The initial states as they are computed with, zeros where none is given."""
        found = []
        for state, value in zip(self.signature.states, self.states, strict=True):
            heads = self.heads[f"solved {state.name}"]
            if value is None:
                sizes = (evaluate(s, self.sizes) for s in state.shape)
                shape = (self.sequences, heads, *sizes)
                found.append(torch.zeros(shape, dtype=self.dtype, device=self.device))
            else:
                found.append(repeat_heads(value.to(self.dtype), heads, STATE_AXIS))
        return found

    def left_outputs(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs with as many heads as they have by the spec, in the first input's dtype."""
        pairs = zip(self.signature.outputs, outputs, strict=True)
        taken = [take_heads(x, self.heads[f"output {o.name}"]) for o, x in pairs]
        return [cast_to(x, self.output_dtype) for x in taken]

    def left(self, finals: Sequence[Tensor]) -> list[Tensor]:
        """Final states with as many heads as the states have."""
        pairs = zip(self.signature.states, finals, strict=True)
        taken = [take_heads(x, self.heads[f"state {s.name}"], STATE_AXIS) for s, x in pairs]
        return [x.contiguous() for x in taken]

    def left_adjoint(self, d_finals: Sequence[Tensor]) -> list[Tensor]:
        """The adjoint of ``left``."""
        pairs = zip(self.signature.states, d_finals, strict=True)
        return [
            place_heads(dx.to(self.dtype), self.heads[f"solved {s.name}"], STATE_AXIS)
            for s, dx in pairs
        ]

    def entered_adjoint(self, d_states: Sequence[Tensor]) -> list[Tensor]:
        """The adjoint of ``entered``."""
        pairs = zip(self.signature.states, d_states, strict=True)
        return [sum_heads(dx, self.heads[f"state {s.name}"], STATE_AXIS) for s, dx in pairs]

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
