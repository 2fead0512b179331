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
  gradients over the value axis that the reverse scan can write by itself. Where every gradient
  is on one side there are no chunk states: see `roles`.
* Summaries are scans that write nothing but the state. They map the states of segments of a
  sequence, affinely, so that the scans proper run over all segments side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lincodegen.program.ir import Tile, contracted, is_dot, strip
from lincodegen.program.program import Program
from lincodegen.schedule.columns import mixes_rows, written_by_values
from lincodegen.schedule.plan import Carry, Kernel, Schedule, Stored, computed
from lincodegen.schedule.roles import ONE_SIDED, one_sided_kernels
from lincodegen.schedule.shares import shared


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

    def store(s: Stored, *, gradients_alone: bool) -> Stored:
        own = s.tile.id in gradients or s.kind == "parts"
        own = own or (gradients_alone and s.kind == "rows")
        return s if own else replace(s, name=free(s.name))

    def kernel(k: Kernel) -> Kernel:
        carry = k.carry and replace(k.carry, kept=k.carry.kept and free(k.carry.kept))
        alone = k.role in ONE_SIDED
        given, outputs = (
            tuple(store(s, gradients_alone=alone) for s in group) for group in (k.given, k.outputs)
        )
        roles = tuple(kernel(role) for role in k.roles)
        return replace(k, given=given, outputs=outputs, carry=carry, roles=roles)

    return replace(
        plan,
        forward=tuple(kernel(k) for k in plan.forward),
        states=kernel(plan.states),
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
    one_sided = one_sided_kernels(program)
    states, *gradients = _backward(program, pinned, decayed)
    backward = [*([_decay(decayed)] if decayed else []), states, *gradients]
    return Schedule(
        program,
        tuple(forward),
        states,
        _output(program, given, reads),
        one_sided or tuple(backward),
        _summaries(program, given, one_sided=bool(one_sided)),
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


def _summaries(
    program: Program, given: tuple[Stored, ...], *, one_sided: bool
) -> tuple[Kernel, ...]:
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
    reverse = "scans_bwd" if one_sided else "scan_bwd"
    return (
        replace(forward, beside=beside, tiles_of="states_fwd"),
        replace(backward, tiles_of=reverse),
    )


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
