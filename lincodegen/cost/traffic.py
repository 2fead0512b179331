"""Bytes that a kernel moves, tensor by tensor, each tensor once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from lincodegen.cost.sizes import WIDE_BYTES, KernelSizes
from lincodegen.cost.work import kernel_tiles
from lincodegen.emit.op_plan import GroupPlan
from lincodegen.program.ir import Tile, strip
from lincodegen.program.program import Program
from lincodegen.schedule.plan import Carry, Stored
from lincodegen.schedule.roles import BORDER_CHUNKS

PARTS = " parts"
"""Ends the name of a tensor that programs over keys each write a part of."""


@dataclass(frozen=True, slots=True)
class Access:
    """One tensor as one kernel reads or writes it.

    Attributes:
        tensor: its name; equal names of one direction are one tensor.
        bytes: of the tensor, once.
        moved: with what programs over tiles of an axis read again each.
        written: whether it is stored rather than loaded.
        parts: how many of them programs over keys write, to be summed.
        walks: in how many orders roles on one grid go over its chunks: caches serve one each.
    """

    tensor: str
    bytes: int
    moved: int
    written: bool
    parts: int = 1
    walks: int = 1


@dataclass(frozen=True, slots=True)
class Tensors:
    """What the tensors of one group are called.

    Attributes:
        operands: per operand of the program its tensor and whether it has the operands' dtype.
        stored: names of gradients that are not as the schedule calls them.
        reads: the name of every read, in the program's order.
        suffix: tells apart what several groups have.
    """

    operands: Mapping[str, tuple[str, bool]]
    stored: Mapping[str, str]
    reads: tuple[str, ...]
    suffix: str

    def own(self, name: str) -> str:
        """The name of what only this group has."""
        return f"{self.stored.get(name, name)}{self.suffix}"


def computed_name(name: str, suffix: str) -> str:
    """The tensor of an operand that is computed before the kernels run."""
    return f"{name}_computed{suffix}"


def group_tensors(program: Program, group: GroupPlan) -> Tensors:
    """The tensors of a group.

    Vectors that are inputs, and computed factors of products, have the operands' dtype; what is
    left is in float32.
    """
    operands = [operand for _, operand in program.operands]
    operands += [operand for _, operand, _ in program.logs]
    named: dict[str, tuple[str, bool]] = {}
    stored: dict[str, str] = {}
    for operand, plan in zip(operands, group.operands, strict=True):
        vector = len(operand.axes) == 2
        if plan.source is None:
            name = computed_name(plan.name, group.suffix)
            stored[f"d{operand.name}"] = f"d{computed_name(plan.name, '')}"
        else:
            name = plan.source
        named[operand.name] = name, vector and (plan.factor or plan.source is not None)
    return Tensors(named, stored, group.reads, group.suffix)


def kernel_traffic(sizes: KernelSizes, tensors: Tensors) -> tuple[Access, ...]:
    """What one kernel loads and stores, each tensor once in either list."""
    found: dict[tuple[str, bool], Access] = {}
    orders: dict[tuple[str, bool], set[bool]] = {}
    for scan in sizes.kernel.scans:
        reader = _Reader(replace(sizes, kernel=scan), tensors)
        for access in dict.fromkeys((*reader.loads(), *reader.stores())):
            key = access.tensor, access.written
            known = found.get(key)
            moved = access.moved if known is None else known.moved + access.moved
            orders.setdefault(key, set()).add(bool(scan.carry and scan.carry.reverse))
            found[key] = replace(known or access, moved=moved, walks=len(orders[key]))
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Reader:
    """Sizes the tensors behind a kernel's tiles."""

    sizes: KernelSizes
    tensors: Tensors

    def loads(self) -> list[Access]:
        kernel, program = self.sizes.kernel, self.sizes.program
        given = {strip(s.tile).id: s for s in kernel.given}
        found = [self._state(kernel.carry, written=False)] if kernel.carry else []
        leaves: dict[int, Tile] = {}
        for tile in kernel_tiles(program, kernel):
            leaves |= {leaf.id: leaf for leaf in (tile, *map(strip, tile.args))}
        for leaf in leaves.values():
            if leaf.id in given:
                found.append(self._stored(given[leaf.id], written=False))
                if given[leaf.id].kind == "borders":
                    found.append(self._end(leaf))
            elif leaf.op in ("load", "log_decay"):
                operand = program.operand(leaf)
                name, wide = self.tensors.operands[operand.name]
                found.append(self._rows(name, operand.axes, wide))
            elif leaf.op == "cotangent":
                name = f"d{self._read(int(leaf.attr[0]))}"
                found.append(self._rows(name, leaf.axes, True))
        return found

    def stores(self) -> list[Access]:
        kernel = self.sizes.kernel
        found = [self._stored(stored, written=True) for stored in kernel.outputs]
        if kernel.carry:
            if kernel.carry.last:
                found.append(self._state(kernel.carry, written=True))
            if kernel.carry.kept:
                kind = "borders" if kernel.carry.borders else "states"
                kept = Stored(kernel.carry.leaf, kernel.carry.kept, kind)
                found.append(self._stored(kept, written=True))
        return found

    def _end(self, leaf: Tile) -> Access:
        """The state after a sequence, or its cotangent, where no kept state follows."""
        program = self.sizes.program
        name = "dht" if leaf is program.d_state else "ht"
        carry = Carry(program.carry, program.next_state, name, name, None, reverse=False)
        return self._state(carry, written=False)

    def _access(self, name: str, axes: Sequence[str], size: int, *, written: bool) -> Access:
        """A tensor of so many bytes; programs over tiles of an axis it lacks read it each."""
        again = 1 if written or self.sizes.kernel.tiled in (None, *axes) else self.sizes.tiles
        return Access(name, size, size * again, written)

    def _rows(self, name: str, axes: Sequence[str], wide: bool) -> Access:
        size = self._row_entries(axes) * self._width(wide)
        return self._access(name, axes, size, written=False)

    def _state(self, carry: Carry, *, written: bool) -> Access:
        call, axes = self.sizes.call, carry.leaf.axes
        columns = self.sizes.columns if "v" in axes else 1
        heads = call.batch * call.heads * self.sizes.segments
        size = heads * self._channels(axes[:1]) * columns * WIDE_BYTES
        name = self.tensors.own(str(carry.last if written else carry.first))
        return self._access(name, axes, size, written=written)

    def _stored(self, stored: Stored, *, written: bool) -> Access:
        tile = strip(stored.tile)
        size = self._entries(stored, tile.axes) * self._width(_is_wide(stored))
        reads = self.sizes.program.outputs
        name = self.tensors.own(stored.name)
        if stored.kind == "parts":
            name += PARTS
        if stored.tile in reads:
            name = self._read(reads.index(stored.tile))
        found = self._access(name, tile.axes, size, written=written)
        return replace(found, parts=self.sizes.tiles) if stored.kind == "parts" else found

    def _read(self, j: int) -> str:
        return self.tensors.reads[j]

    def _entries(self, stored: Stored, axes: Sequence[str]) -> int:
        call = self.sizes.call
        chunks = self.sizes.chunks * call.batch * call.heads
        match stored.kind:
            case "square":
                return chunks * prod(self.sizes.rows(axis) for axis in axes)
            case "states" | "border":
                return chunks * self._channels(axes)
            case "borders":
                kept = self.sizes.chunks * call.batch // BORDER_CHUNKS
                return kept * call.heads * self._channels(axes)
            case "parts":
                return self.sizes.tiles * self._row_entries(axes)
            case _:
                return self._row_entries(axes)

    def _row_entries(self, axes: Sequence[str]) -> int:
        return self.sizes.call.token_heads * self.sizes.live(axes[0]) * self._channels(axes[1:])

    def _channels(self, axes: Sequence[str]) -> int:
        return prod(self.sizes.size(axis) for axis in axes)

    def _width(self, wide: bool) -> int:
        return self.sizes.call.operand_bytes if wide else WIDE_BYTES


def _is_wide(stored: Stored) -> bool:
    """Whether a store has the operands' dtype; else it is in float32."""
    if stored.kind == "rows":
        return len(strip(stored.tile).axes) == 2
    return stored.kind in ("square", "states", "borders")
