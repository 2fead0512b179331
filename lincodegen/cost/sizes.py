"""The sizes of a call, and those of the axes of one kernel under a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

from lincodegen.config import Config
from lincodegen.program.program import Program
from lincodegen.schedule.plan import Kernel
from lincodegen.spec.dims import Dim

OPERAND_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
"""Bytes of an entry of a dot operand, by dtype."""
WIDE_BYTES = 4
"""Bytes of an entry in float32: states, one value a token, what PyTorch computes."""
LEAST_TILE = 16


@dataclass(frozen=True, slots=True)
class CallSizes:
    """A call of an op: ``size`` is the length of every dimension that ``dims`` leaves out.

    Attributes:
        batch: sequences, all of ``tokens`` tokens.
        heads: heads of every tensor.
        dtype: that of the operands, ``bf16``, ``fp16`` or ``fp32``.
    """

    batch: int = 4
    tokens: int = 8192
    heads: int = 32
    size: int = 128
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    dtype: str = "bf16"

    @property
    def token_heads(self) -> int:
        """Tokens of all sequences times heads."""
        return self.batch * self.tokens * self.heads

    @property
    def longest_chunk(self) -> int:
        """Most tokens of a chunk: a power of two that holds the sequence."""
        return max(LEAST_TILE, 1 << (self.tokens - 1).bit_length())

    @property
    def operand_bytes(self) -> int:
        """Bytes of an operand's entry."""
        return OPERAND_BYTES[self.dtype]

    def length(self, dim: Dim) -> int:
        """The length of a dimension."""
        return dim.evaluate({name: self.dims.get(name, self.size) for name in dim.names})

    def entries(self, shape: Iterable[Dim]) -> int:
        """Entries of a tensor of this shape, for one token and head."""
        return prod(self.length(dim) for dim in shape)


@dataclass(frozen=True, slots=True)
class KernelSizes:
    """How long the axes of one kernel are: in memory, and in one program of it.

    ``segments`` are those of a sequence that a scan goes over side by side.
    """

    call: CallSizes
    program: Program
    kernel: Kernel
    config: Config
    segments: int = 1

    @property
    def chunks(self) -> int:
        """Chunks of a sequence."""
        return -(-self.call.tokens // self.config.chunk_size)

    @property
    def tiles(self) -> int:
        """Programs that share out one chunk, or one head of a scan."""
        axis = self.kernel.tiled
        if axis is None:
            return 1
        whole = self.size(axis) if axis == "k" else self.columns
        return -(-whole // self._tile(axis))

    @property
    def steps(self) -> int:
        """Chunks that a program goes over, one after the other; 0 without a scan."""
        return -(-self.chunks // self.segments) if self.kernel.carry else 0

    @property
    def columns(self) -> int:
        """Columns of the state that a kernel carries."""
        further = {None: 0, "ones": 1, "identity": self.size("k")}
        return self.size("v") + further[self.kernel.beside]

    @property
    def programs(self) -> int:
        """Programs of the launch."""
        chunks = self.segments if self.kernel.carry else self.chunks
        return self.tiles * chunks * self.call.batch * self.call.heads

    @property
    def used(self) -> Config:
        """The configuration with whole axes where the kernel cuts none."""
        cut = self.kernel.cut
        tiles = {a: self._tile(a) if a in cut else self._whole(a) for a in self._axes}
        return self.config._replace(**{f"tile_{a}": tile for a, tile in tiles.items()})

    @property
    def _axes(self) -> tuple[str, ...]:
        return tuple(self.program.carry.axes)

    def size(self, axis: str) -> int:
        """Channels of K or V."""
        group = self.program.form.group
        shape = group.state.shape[::-1] if group.flipped else group.state.shape
        return self.call.length(shape["kv".index(axis)])

    def live(self, axis: str) -> int:
        """Rows that a token has in memory."""
        return 1 if axis == "tok" else len(self.program.form.slots(axis))

    def rows(self, axis: str) -> int:
        """Rows of a chunk: a power of two a token, dead ones included."""
        return (1 << (self.live(axis) - 1).bit_length()) * self.config.chunk_size

    def length(self, axis: str) -> int:
        """Entries of an axis that one program computes on for a chunk, padding included."""
        if axis not in ("k", "v"):
            return self.rows(axis)
        if axis == self.kernel.tiled:
            return self._tile(axis)
        if axis == self.kernel.looped:
            return -(-self.size(axis) // self._tile(axis)) * self._tile(axis)
        return self._whole(axis)

    def entries(self, axes: Iterable[str]) -> int:
        """Entries of a tile in one program."""
        return prod(self.length(axis) for axis in axes)

    def _whole(self, axis: str) -> int:
        return max(LEAST_TILE, 1 << (self.size(axis) - 1).bit_length())

    def _tile(self, axis: str) -> int:
        tile = self.config.tile_k if axis == "k" else self.config.tile_v
        return min(tile, self._whole(axis))
