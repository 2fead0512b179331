"""What the kernels of a token share: names, axes, arguments, host code."""

from __future__ import annotations

from dataclasses import dataclass

from lincodegen.emit.token_device import DeviceProgram, HostNumbers
from lincodegen.emit.token_kernel import Array, Home, KernelLines, dotted_dims, mixes
from lincodegen.emit.token_python import product_text, words
from lincodegen.emit.token_recurrent_tensors import MODULE_NAMES, Tensors
from lincodegen.emit.token_tiles import TileAxes, numel
from lincodegen.emit.token_torch import size_reads
from lincodegen.program.token_names import Names
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node

_KERNEL = (
    *("i_nh", "i_n", "i_h", "i_t", "i_c", "i_b", "i_r", "i_e", "bos", "length", "row", "chunk"),
    *("num_chunks", "start", "count", "cu_seqlens", "H"),
)
SPLIT_TILE = 32
"""The tile of an axis that programs share between them."""


@dataclass(frozen=True, slots=True)
class KernelContext:
    """What the template prints of one direction."""

    parameters: tuple[str, ...]
    prepare: tuple[str, ...]
    keep: tuple[str, ...]
    restart: tuple[str, ...]
    again: tuple[str, ...]
    token: tuple[str, ...]
    finish: tuple[str, ...]
    signature: tuple[str, ...]
    host: tuple[str, ...]
    grid: tuple[str, ...]
    arguments: tuple[str, ...]
    results: tuple[str, ...]


class TokenKernel:
    """What kernels of a token share: arguments, axes, host code."""

    reserved: tuple[str, ...] = _KERNEL

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.names = Names({*self.reserved, *MODULE_NAMES, *tensors.recurrence.dims})
        raw = (*tensors.tensors, *tensors.states, *tensors.constants)
        self.host_names = Names({*MODULE_NAMES, *raw, *tensors.recurrence.dims})
        self.pointer = {name: self.names.free(name) for name in tensors.tensors}
        self.head_count = {
            name: self.names.free(f"H_{name}")
            for name in (*tensors.tensors, *sorted(tensors.partial))
            if len(tensors.tensors) > 1
        }
        self.offsets = self.host_names.free("offsets")
        self.count = self.host_names.free("count")
        self.heads = self.host_names.free("heads")
        self.chunk = self.host_names.free("chunk")
        self.numbers = HostNumbers(self.host_names)
        self.programs: list[DeviceProgram] = []

    def start_lines(self, split: bool) -> None:
        """Fix the axes, once the programs are known."""
        nodes = [node for program in self.programs for node in program.nodes()]
        dotted = [dim for node in nodes for dim in dotted_dims(node)]
        chosen = self._split(nodes) if split else None
        self.axes = TileAxes(self.names, dotted, chosen)
        self.lines = KernelLines(self.names, self.axes, chosen)

    def _split(self, nodes: list[Node]) -> Dim | None:
        """An axis of a state that programs can share: no operation mixes its entries."""
        dims = [d for s in self.tensors.states for d in reversed(self.tensors.shapes[s])]
        return next((dim for dim in dims if is_separable(dim, nodes)), None)

    def arrays(self) -> dict[str, Array]:
        """Inputs and parameters by name."""
        shapes = self.tensors.shapes
        tokens = {n: self._array(n, Home.TOKEN) for n in self.tensors.inputs}
        parameters = {n: self._array(n, Home.PARAMETER) for n in self.tensors.parameters}
        assert all(a.shape == shapes[n] for n, a in tokens.items())
        return tokens | parameters

    def _array(self, name: str, home: Home) -> Array:
        shape = self.tensors.shapes[name]
        return Array(self.pointer[name], shape, home, self.head_count.get(name))

    def state_array(self, name: str, pointer: str, home: Home, sparse: bool = False) -> Array:
        """An array of a state's shape."""
        heads = self.head_count.get(name) if home is Home.STATE else None
        shape = self.tensors.shapes[name]
        return Array(pointer, shape, home, heads, sparse and heads is not None)

    def state_leaf(self, name: str) -> str:
        """The variable that carries a state."""
        return self.lines.tile(name, self.tensors.shapes[name])

    def constexprs(self, body: str) -> dict[str, str]:
        """Compile-time arguments that a kernel's text uses, with the host's values."""
        used = words(body)
        found = {"H": self.heads}
        for name, constexpr in self.head_count.items():
            if constexpr in used:
                found[constexpr] = self.heads_of(name)
        found |= {dim: dim for dim in self.tensors.recurrence.dims if dim in used}
        for axis in self.axes.axes.values():
            if axis.tile in used and not axis.tile.isdigit():
                size = f"min({SPLIT_TILE}, {axis.tile_size})" if axis.is_split else axis.tile_size
                found[axis.tile] = size
        return found

    def heads_of(self, name: str) -> str:
        """The host's expression for the heads of a tensor or a state."""
        return self.tensors.heads_text(self.tensors.sources.get(name, (name,)))

    def size_lines(self, used: frozenset[str]) -> list[str]:
        """The host's definitions of dimensions."""
        everything = self.tensors.shapes.items()
        known = size_reads((n, s) for n, s in everything if n in self.known_shapes)
        return [f"{d} = {known[d]}" for d in self.tensors.recurrence.dims if d in used]

    known_shapes: frozenset[str] = frozenset()
    thread_load: int = 64
    """Entries of a state's tile that a thread may hold."""

    def grid(self) -> tuple[str, ...]:
        """The launch grid."""
        programs = f"{self.count} * {self.heads}"
        if self.lines.split is None:
            return (programs,)
        axis = self.axes.axis(self.lines.split)
        tile = f"min({SPLIT_TILE}, {axis.tile_size})"
        return (programs, f"triton.cdiv({axis.size}, {tile})")

    def host_numbers(self) -> list[str]:
        """The host's computation of numbers for the kernel."""
        return [f"{name} = {text}" for text, name in self.numbers.given.items()]

    def opening(self) -> list[str]:
        """The first lines of a host function."""
        first = self.tensors.inputs[0]
        return [
            f"{self.offsets} = packed_offsets(cu_seqlens, {first})",
            f"{self.count} = {self.offsets}.numel() - 1",
            f"{self.heads} = {self.tensors.heads_text(self.tensors.tensors)}",
            f"{self.chunk} = max(1, math.isqrt({first}.shape[1]))",
        ]

    def launch(self, pointers: dict[str, str], body: list[str]) -> tuple[list[str], list[str]]:
        """The kernel's parameters and the arguments of its launch, in one order."""
        constexprs = self.constexprs("\n".join(body))
        floats = {kernel: name for name, kernel in self.lines.constants.items()}
        given = pointers | {"cu_seqlens": self.offsets} | floats | {"chunk": self.chunk}
        parameters = [*given, *(f"{name}: tl.constexpr" for name in constexprs)]
        arguments = [*given.values(), *(f"{n}={v}" for n, v in constexprs.items())]
        return parameters, [
            *arguments,
            f"num_warps=warps_for({self._entries()}, {self.thread_load})",
        ]

    def _entries(self) -> str:
        """The host's expression for the entries of the largest state's tile."""
        counts: list[str] = []
        for state in self.tensors.states:
            shape = self.tensors.shapes[state]
            rest = numel(tuple(d for d in shape if d != self.lines.split))
            split = f"min({SPLIT_TILE}, {self.lines.split})" if self.lines.split in shape else ""
            size = product_text(rest)
            counts.append(split if split and size == "1" else f"{split} * {size}".lstrip(" *"))
        counts = list(dict.fromkeys(counts))
        return counts[0] if len(counts) == 1 else f"max({', '.join(counts)})"


def is_separable(dim: Dim, nodes: list[Node]) -> bool:
    """Whether a plain dimension stands in no other size and no operation mixes its axis."""
    if str(dim) not in dim.names:
        return False
    others = {size for node in nodes for size in node.shape if size != dim}
    if any(dim.names & size.names for size in others):
        return False
    return not any(mixes(node, dim) for node in nodes)
