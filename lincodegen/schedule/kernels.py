"""Cuts a program into kernels: what each computes, loads, stores, carries and tiles.

Rules, none of which knows a recurrence:

* Inverses and grams decayed per channel are pinned to a state-free ``prep`` kernel; any other
  state-free tile sinks into the kernels that use it and is computed again there. Operands
  times a decay per key channel come from a ``decay`` kernel instead: two clocks of a whole
  chunk would take every register of a scan, but not one: see `_one_clock`.
* A scan carries the state forward, or its cotangent backward. It may tile the value axis
  over programs only if nothing inside contracts it.
* The backward keeps, per chunk, the carries of both scans and the rows that a solve made;
  everything else of the adjoint is chunk-parallel in the ``gradient`` kernel, but for
  gradients over the value axis that the reverse scan can write by itself.
* Summaries are scans that write nothing but the state. They map the states of segments of a
  sequence, affinely, so that the scans proper run over all segments side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lincodegen.program.ir import Tile, contracted, is_dot, strip
from lincodegen.program.program import Program
from lincodegen.schedule.columns import mixes_rows, written_by_values
from lincodegen.schedule.shares import shared


@dataclass(frozen=True, slots=True)
class Stored:
    """A tile in global memory.

    ``kind``: ``rows`` [B, T, H, (slots,) D]; ``square`` [B * H * NT, R, C], one a chunk;
    ``states`` [B * H * NT, K, V] and ``border`` [B * H * NT, K], likewise; ``parts``
    [NK, B, T, H, (slots)], rows that every program over keys adds a part of.
    """

    tile: Tile
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Carry:
    """What a scan hands from chunk to chunk; ``kept`` names the store of its value before."""

    leaf: Tile
    update: Tile
    first: str
    last: str
    kept: str | None
    reverse: bool


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch: role ``prep``, ``decay``, ``scan``, ``gradient``..., ``fwd`` or ``bwd``.

    ``tiled`` is the axis that programs share out, ``looped`` the contracted axis that the
    kernel's inner loop goes over in tiles; either may be None. ``beside`` is what the state has
    columns of behind its V, where operands read as zeros: the ``identity``, K of them, or
    ``ones``, a single one; None for no such columns. ``first`` are tiles among those below its
    roots that it computes before the others.
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

    @property
    def name(self) -> str:
        """The middle of the kernel's name."""
        return f"{self.role}_{self.direction}"

    @property
    def tiled_as(self) -> str:
        """The name of the kernel whose tiles it takes: a summary does a part of another scan."""
        scans = {"summary_fwd": "states_fwd", "summary_bwd": "scan_bwd"}
        return scans.get(self.name, self.name)

    @property
    def roots(self) -> tuple[Tile, ...]:
        """Every tile that the kernel must compute."""
        update = (self.carry.update,) if self.carry else ()
        return (*self.first, *(s.tile for s in self.outputs), *update)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The kernels of a group, each tuple in the order of launches.

    ``forward`` is the ``scan`` schedule: reads leave the scan. ``split`` follows on a prep
    kernel and the first kernels of ``backward``, which keep the chunk states: reads in a
    chunk-parallel kernel, for few heads. ``backward`` serves both. ``segment`` cuts sequences
    into segments, for very few heads: ``summaries`` are its scans before that of the forward
    and that of the backward, none for a group that has no such form.
    """

    program: Program
    forward: tuple[Kernel, ...]
    split: Kernel
    backward: tuple[Kernel, ...]
    summaries: tuple[Kernel, ...]

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Every kernel; one that both directions launch comes twice."""
        return (*self.forward, *self.backward, self.split, *self.summaries)

    @property
    def decaying(self) -> tuple[Kernel, ...]:
        """The kernel that decays operands, where the forward scan alone does without it."""
        known = {k.name for k in self.forward}
        return tuple(k for k in self.backward if k.role == "decay" and k.name not in known)

    @property
    def instead(self) -> tuple[Kernel, ...]:
        """What the ``split`` schedule launches in place of the forward scan."""
        return (*self.decaying, next(k for k in self.backward if k.role == "states"), self.split)

    def __str__(self) -> str:
        lines = []
        for kernel in self.kernels:
            loads = ", ".join(s.name for s in kernel.given) or "-"
            stores = ", ".join(s.name for s in kernel.outputs) or "-"
            if kernel.carry and kernel.carry.kept:
                stores += f", {kernel.carry.kept} a chunk"
            where = [f"programs over {kernel.tiled}"] if kernel.tiled else []
            where += [f"loop over {kernel.looped}"] if kernel.looped else []
            place = ", ".join(where) or "whole tiles"
            lines.append(f"  {kernel.name:14s} {place:32s} given {loads}; stores {stores}")
        return "\n".join(lines)


def schedule(program: Program) -> Schedule:
    """The kernels of a program; no store has the name of an operand or its gradient."""
    operands = [o.name for _, o in program.operands] + [o.name for _, o, _ in program.logs]
    return _renamed(_cut(program), {*operands, *(f"d{n}" for n in operands)})


def _renamed(plan: Schedule, taken: set[str]) -> Schedule:
    """The schedule with stores whose names are taken renamed throughout."""
    gradients = {g.id for _, g in plan.program.gradients}

    def free(name: str) -> str:
        while name in taken:
            name += "_"
        return name

    def store(s: Stored) -> Stored:
        own = s.tile.id in gradients or s.kind == "parts"
        return s if own else replace(s, name=free(s.name))

    def kernel(k: Kernel) -> Kernel:
        carry = k.carry and replace(k.carry, kept=k.carry.kept and free(k.carry.kept))
        given, outputs = (tuple(store(s) for s in group) for group in (k.given, k.outputs))
        return replace(k, given=given, outputs=outputs, carry=carry)

    return replace(
        plan,
        forward=tuple(kernel(k) for k in plan.forward),
        split=kernel(plan.split),
        backward=tuple(kernel(k) for k in plan.backward),
        summaries=tuple(kernel(k) for k in plan.summaries),
    )


def _cut(program: Program) -> Schedule:
    """Forward: prep and scan. Backward: both scans, then gradients."""
    pinned, decayed = _pinned(program), _decayed(program)
    forward = [_prep(pinned)] if pinned else []
    given = (*pinned, *decayed)
    within = _one_clock(program, pinned)
    forward += [_decay(decayed)] if decayed and not within else []
    reads = tuple(Stored(tile, f"o{j or ''}", "rows") for j, tile in enumerate(program.outputs))
    carry = Carry(program.carry, program.next_state, "h0", "ht", None, False)
    scan = _scan("scan", "fwd", pinned if within else given, reads, carry)
    forward.append(_decaying(scan) if decayed and within else scan)
    backward = [*([_decay(decayed)] if decayed else []), *_backward(program, pinned, decayed)]
    return Schedule(
        program,
        tuple(forward),
        _output(program, given, reads),
        tuple(backward),
        _summaries(program, given),
    )


def _output(program: Program, pinned: tuple[Stored, ...], reads: tuple[Stored, ...]) -> Kernel:
    """The chunk-parallel kernel of the reads, from stored chunk states and solved rows."""
    kept, _ = _solved_rows(program)
    given = (*kept, Stored(program.carry, "h", "states"), *pinned)
    inside = computed([s.tile for s in reads], given)
    free = "v" in program.carry.axes and not any("v" in contracted(t) for t in inside)
    return _trimmed(Kernel("output", "fwd", given, reads, None, "v" if free else None, None))


def _backward(
    program: Program, pinned: tuple[Stored, ...], decayed: tuple[Stored, ...]
) -> list[Kernel]:
    kept, d_rows = _solved_rows(program)
    states = Carry(program.carry, program.next_state, "h0", "ht", "h", False)
    reverse = Carry(program.d_state, program.d_carry, "dht", "dh0", "dh", True)
    given = (*pinned, *decayed)
    direct = [s for s in _gradients(program) if _direct(program, s.tile, given + d_rows)]
    rest = tuple(s for s in _gradients(program) if s not in direct)
    both = (
        Stored(program.carry, "h", "states"),
        Stored(program.d_state, "dh", "states"),
    )
    kernels = [
        _scan("states", "fwd", given, kept, states),
        _scan("scan", "bwd", given, (*d_rows, *direct), reverse),
    ]
    if rest:
        tiles = (*kept, *d_rows, *both, *pinned)
        kernels.append(_gradient(program, tiles, rest))
    return [_trimmed(k) for k in kernels]


def _summaries(program: Program, given: tuple[Stored, ...]) -> tuple[Kernel, ...]:
    """What a segment does to the state, S -> M S + L, and back to its cotangent.

    The columns of the state are told apart by what is written to them: L is the final state from
    zeros, and M that from the identity in further columns, where nothing is written.
    """
    onward = Carry(program.carry, program.next_state, "entered", "passed", None, False)
    reverse = Carry(program.d_state, program.d_carry, "entered", "passed", None, True)
    forward = _scan("summary", "fwd", given, (), onward)
    backward = _scan("summary", "bwd", given, (), reverse)
    inside = computed([program.next_state], ())
    if forward.tiled != "v" or backward.tiled != "v" or not written_by_values(program, inside):
        return ()
    beside = "identity" if mixes_rows(program, inside) else "ones"
    return replace(forward, beside=beside), backward


def _gradient(program: Program, given: tuple[Stored, ...], outputs: tuple[Stored, ...]) -> Kernel:
    """The chunk-parallel kernel: keys shared out over programs, values looped over."""
    roots = [s.tile for s in outputs]
    looped = "v" if _single_pass(roots, given, "v") else None
    stop = {strip(s.tile).id for s in given}
    made = shared(program.graph, roots, stop, "k")
    if made is None:
        return Kernel("gradient", "bwd", given, outputs, None, None, looped)
    outputs = tuple(
        s if "k" in s.tile.axes else Stored(tile, s.name, "parts")
        for s, tile in zip(outputs, made, strict=True)
    )
    return Kernel("gradient", "bwd", given, outputs, None, "k", looped)


def _prep(pinned: tuple[Stored, ...]) -> Kernel:
    looped = "k" if _single_pass([s.tile for s in pinned], (), "k") else None
    return Kernel("prep", "fwd", (), pinned, None, None, looped)


def _decay(decayed: tuple[Stored, ...]) -> Kernel:
    """Chunk-parallel, keys shared out: the forward and the backward each run it."""
    return Kernel("decay", "fwd", (), decayed, None, "k", None)


def _scan(
    role: str,
    direction: str,
    given: tuple[Stored, ...],
    outputs: tuple[Stored, ...],
    carry: Carry,
) -> Kernel:
    roots = [*(s.tile for s in outputs), carry.update]
    inside = computed(roots, given)
    free = "v" in carry.leaf.axes and not any("v" in contracted(t) for t in inside)
    kernel = Kernel(role, direction, given, outputs, carry, "v" if free else None, None)
    return _trimmed(kernel)


def _trimmed(kernel: Kernel) -> Kernel:
    """The kernel without given tiles that it does not use."""
    needed = {strip(a).id for t in computed(kernel.roots, kernel.given) for a in t.args}
    needed |= {strip(t).id for t in kernel.roots}
    given = tuple(s for s in kernel.given if strip(s.tile).id in needed)
    return replace(kernel, given=given)


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


def _pinned(program: Program) -> tuple[Stored, ...]:
    """Inverses and decayed grams of the forward, from the outside in."""
    found: dict[int, Stored] = {}

    def visit(tile: Tile) -> None:
        if tile.op == "inverse" or (tile.op == "contract" and "k" not in tile.axes):
            name = program.graph.names.get(tile.id) or f"P{len(found) or ''}"
            found.setdefault(tile.id, Stored(tile, name.replace("_", ""), "square"))
            return
        for arg in tile.args:
            visit(arg)

    for root in (*program.outputs, program.next_state):
        visit(root)
    return tuple(found.values())


def _decayed(program: Program) -> tuple[Stored, ...]:
    """Operands times a decay per channel to a border of the chunk, and the decay of all of it."""
    found: dict[int, Stored] = {}
    for tile in computed((*program.outputs, program.next_state), ()):
        if tile.op == "decay" and tile.axes == ("k",):
            found[tile.id] = Stored(tile, "decay", "border")
        elif tile.op == "ein" and not contracted(tile) and "k" in tile.axes:
            operand = next((strip(a) for a in tile.args if strip(a).op == "load"), None)
            decay = next((a for a in tile.args if a.op == "decay" and "k" in a.axes), None)
            if operand is not None and decay is not None:
                side = "start" if decay.attr[1].border else "end"
                name = f"{program.operand(operand).name}_{side}"
                found[tile.id] = Stored(tile, name, "rows")
    return tuple(found.values())


def _decaying(scan: Kernel) -> Kernel:
    """The scan with all products of the carry first: operands decayed alike share the decay."""
    leaf = scan.carry and scan.carry.leaf
    inside = computed(scan.roots, scan.given)
    return replace(scan, first=tuple(t for t in inside if is_dot(t) and leaf in t.args))


def _one_clock(program: Program, pinned: tuple[Stored, ...]) -> bool:
    """Whether a scan can do with running sums from a border: no other decay per channel in it."""
    channel = [d for d in program.form.group.decays if d.channel]
    inside = computed((*program.outputs, program.next_state), pinned)
    one = len(channel) == 1 and all(len(slots) == 1 for _, slots in program.form.axes)
    matrix = "v" in program.carry.axes
    return one and matrix and not any(t.op == "contract" for t in inside)


def _solved_rows(program: Program) -> tuple[tuple[Stored, ...], tuple[Stored, ...]]:
    """Rows that the solve and its adjoint make: Z, and dR."""
    z = program.blocks.get("Z_m")
    if z is None:
        return (), ()
    d_r = [
        t
        for t in computed([g for _, g in program.gradients], ())
        if program.graph.names.get(t.id) == "dR"
    ]
    return (Stored(z, "z", "rows"),), tuple(Stored(strip(t), "dr", "rows") for t in d_r[:1])


def _gradients(program: Program) -> list[Stored]:
    """The gradients of the operands and log decays as stores."""
    return [
        Stored(gradient, "d" + program.operand(leaf).name, "rows")
        for leaf, gradient in program.gradients
    ]


def _direct(program: Program, tile: Tile, given: tuple[Stored, ...]) -> bool:
    """Whether the reverse scan can write a gradient: over v, without S, contracting no v."""
    if "v" not in tile.axes:
        return False
    inside = computed([tile], given)
    return all(t is not program.carry and "v" not in contracted(t) for t in inside)


def _single_pass(roots: list[Tile], given: Iterable[Stored], axis: str) -> bool:
    """Whether one loop over tiles of ``axis`` suffices: no sum over it below another one."""
    inside = computed(roots, given)
    sums = {t.id for t in inside if axis in contracted(t)}
    if not sums:
        return False
    over: dict[int, bool] = {}
    for tile in inside:
        below_sum = any(over.get(a.id, False) or a.id in sums for a in tile.args)
        over[tile.id] = below_sum
        if below_sum and (tile.id in sums or axis in tile.axes):
            return False
    return True
