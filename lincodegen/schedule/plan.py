"""What a schedule says: the kernels, and what each stores, carries, tiles and is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lincodegen.program.ir import Tile, strip
from lincodegen.program.program import Program


@dataclass(frozen=True, slots=True)
class Stored:
    """A tile in global memory.

    ``kind``: ``rows`` [B, T, H, (slots,) D]; ``square`` [B * H * NT, R, C], one a chunk;
    ``states`` [B * H * NT, K, V] and ``border`` [B * H * NT, K], likewise; ``borders``
    [(B * NT // NB + B) * H, K * V], states at the end of every NB-th chunk; ``parts``
    [NK, B, T, H, (slots)], rows that every program over keys adds a part of.
    """

    tile: Tile
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Carry:
    """What a scan hands from chunk to chunk, from the tensor ``first`` to ``last``, if any.

    ``kept`` names the store of its value before each chunk; with ``borders`` that of its value at
    the end of every NB-th chunk of all.
    """

    leaf: Tile
    update: Tile
    first: str
    last: str | None
    kept: str | None
    reverse: bool
    borders: bool = False


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch: role ``prep``, ``decay``, ``scan``, ``gradient``..., ``fwd`` or ``bwd``.

    ``tiled`` is the axis that programs share out, ``looped`` the contracted axis that the
    kernel's inner loop goes over in tiles; either may be None. ``beside`` is what the state has
    columns of behind its V, where operands read as zeros: the ``identity``, K of them, or
    ``ones``, a single one; None for no such columns. ``first`` are tiles among those below its
    roots that it computes before the others. ``roles`` are scans that share the launch: each has
    programs of its own. ``tiles_of`` names the kernel whose tiles it takes, if not its own.
    """

    role: str
    direction: str
    given: tuple[Stored, ...]
    outputs: tuple[Stored, ...]
    carry: Carry | None
    tiled: str | None
    looped: str | None
    beside: str | None = None
    first: tuple[Tile, ...] = ()
    roles: tuple[Kernel, ...] = ()
    tiles_of: str = ""

    @property
    def name(self) -> str:
        """The middle of the kernel's name."""
        return f"{self.role}_{self.direction}"

    @property
    def tiled_as(self) -> str:
        """The name of the kernel whose tiles it takes: a summary does a part of another scan."""
        return self.tiles_of or self.name

    @property
    def scans(self) -> tuple[Kernel, ...]:
        """Its roles; itself where it has none."""
        return self.roles or (self,)

    @property
    def cut(self) -> tuple[str, ...]:
        """The axes that it takes in tiles."""
        axes = {axis for scan in self.scans for axis in (scan.tiled, scan.looped)}
        return tuple(axis for axis in ("k", "v") if axis in axes)

    @property
    def roots(self) -> tuple[Tile, ...]:
        """Every tile that the kernel must compute."""
        update = (self.carry.update,) if self.carry else ()
        return (*self.first, *(s.tile for s in self.outputs), *update)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The kernels of a group, each tuple in the order of launches.

    ``forward`` is the ``scan`` schedule: reads leave the scan. ``split`` follows on a prep
    kernel and ``states``, which keeps the chunk states: reads in a chunk-parallel kernel, for few
    heads. ``backward`` serves both. ``segment`` cuts sequences into segments, for very few heads:
    ``summaries`` are its scans before that of the forward and that of the backward, none for a
    group that has no such form.
    """

    program: Program
    forward: tuple[Kernel, ...]
    states: Kernel
    split: Kernel
    backward: tuple[Kernel, ...]
    summaries: tuple[Kernel, ...]

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Every kernel, each once."""
        return (*self.own, *self.summaries)

    @property
    def own(self) -> tuple[Kernel, ...]:
        """Every kernel that has tiles of its own, each once."""
        known = (*self.forward, *self.backward, self.states, self.split)
        return tuple({k.name: k for k in known}.values())

    @property
    def decaying(self) -> tuple[Kernel, ...]:
        """The kernel that decays operands, where the forward scan alone does without it."""
        known = {k.name for k in self.forward}
        return tuple(k for k in self.backward if k.role == "decay" and k.name not in known)

    @property
    def instead(self) -> tuple[Kernel, ...]:
        """What the ``split`` schedule launches in place of the forward scan."""
        return (*self.decaying, self.states, self.split)

    def __str__(self) -> str:
        lines = []
        for kernel in self.kernels:
            loads = ", ".join(s.name for s in kernel.given) or "-"
            stores = ", ".join(s.name for s in kernel.outputs) or "-"
            if kernel.carry and kernel.carry.kept:
                stores += f", {kernel.carry.kept} a chunk"
            stores += "".join(
                f", {scan.carry.kept} every so many chunks"
                for scan in kernel.roles
                if scan.carry and scan.carry.kept
            )
            where = [f"{scan.name} over {scan.tiled}" for scan in kernel.roles]
            where += [f"programs over {kernel.tiled}"] if kernel.tiled else []
            where += [f"loop over {kernel.looped}"] if kernel.looped else []
            place = ", ".join(where) or "whole tiles"
            lines.append(f"  {kernel.name:14s} {place:32s} given {loads}; stores {stores}")
        return "\n".join(lines)


def kernel_label(name: str, suffix: str) -> str:
    """The name of a kernel within its op, as in ``scan_fwd`` or ``S_scan_fwd``."""
    return f"{suffix}_{name}".removeprefix("_")


def computed(roots: Iterable[Tile], given: Iterable[Stored]) -> list[Tile]:
    """The tiles that a kernel computes, operands first: all below its roots, down to stores."""
    stop = {strip(s.tile).id for s in given}
    order: list[Tile] = []
    seen: set[int] = set()

    def visit(tile: Tile) -> None:
        if tile.id in seen or strip(tile).id in stop:
            return
        seen.add(tile.id)
        for arg in tile.args:
            visit(arg)
        order.append(tile)

    for root in roots:
        visit(root)
    return order
