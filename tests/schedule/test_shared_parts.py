"""Keys shared out over programs: the parts add up to the whole, exactly."""

import numpy as np
import pytest

from lincodegen.program import proof
from lincodegen.program.evaluate import TileEvaluator
from lincodegen.program.ir import below, strip
from lincodegen.program.unrolled import Unrolled
from lincodegen.schedule.kernels import schedule
from lincodegen.spec.loader import load
from tests.property.chunk_op import compiled
from tests.property.unseen_specs import SPECS

KEYS, PROGRAMS = 4, 2


class Part(TileEvaluator):
    """Evaluates a tile as one of the programs over keys sees it."""

    first = True

    def _value(self, tile):
        if tile.op == "once":
            value = self(tile.args[0])
            return value if self.first else value * self.ring.element(0)
        return super()._value(tile)


def gradient_kernels(name):
    for program in compiled(load(SPECS[name]))[1]:
        for kernel in schedule(program).backward:
            if kernel.role == "gradient" and kernel.tiled == "k":
                yield program, kernel


def exact_check(name, index):
    """The exact values of every tile of a group at one random point."""
    timeline, programs = compiled(load(SPECS[name]))
    sizes = {**dict.fromkeys(timeline.recurrence.dims, 3), "K": KEYS}
    size = proof._Size(proof.Residues(proof.PRIMES[0], 5), sizes, 3)  # noqa: SLF001
    unrolled = Unrolled(timeline, size.ring, sizes, 3, proof._initial(timeline, size))  # noqa: SLF001
    unrolled.run()
    return proof._GroupCheck(unrolled, index, programs[index], size), programs[index]  # noqa: SLF001


def sliced(axes, value, part):
    if "k" not in axes:
        return value
    step = value.shape[axes.index("k")] // PROGRAMS
    index = [slice(None)] * value.ndim
    index[axes.index("k")] = slice(part * step, (part + 1) * step)
    return value[tuple(index)]


@pytest.mark.parametrize("name", SPECS)
def test_parts_add_up(name):
    count = len(compiled(load(SPECS[name]))[1])
    shared = 0
    for index in range(count):
        check, program = exact_check(name, index)
        scans = [scan for k in schedule(program).backward for scan in k.scans]
        kernels = [k for k in scans if (k.role in ("gradient", "keys")) and k.tiled == "k"]
        if len(check.leaves[program.carry.id]) != KEYS:
            continue
        for kernel in kernels:
            leaves = _leaves(check, program, kernel)
            whole = _named_gradients(program)
            parts = [_part(check, program, leaves, part) for part in range(PROGRAMS)]
            for stored in kernel.outputs:
                want = check.evaluate(whole[stored.name])
                got = [p(stored.tile) for p in parts]
                if stored.kind == "parts":
                    total = sum(got[1:], got[0])
                    assert (total == want).all(), stored.name
                else:
                    axis = stored.tile.axes.index("k")
                    assert (np.concatenate(got, axis) == want).all(), stored.name
                shared += 1
    if name in ("other_erase_key", "reads_around", "two_decays", "broadcast_write"):
        assert shared


def _named_gradients(program):
    """Whole gradients by the names of their stores, those of the clocks too."""
    named = {f"d{program.operand(leaf).name}": g for leaf, g in program.gradients}
    rows = program.one_sided.rows if program.one_sided else ()
    return named | {f"dG_{row.axes[0]}": row for row in rows}


def _leaves(check, program, kernel):
    """What the kernel loads: leaves, and given tiles as values."""
    leaves = dict(check.leaves)
    tiles = {t.id: t for s in kernel.outputs for t in below([s.tile])}
    tiles |= {t.id: t for t in below([program.d_carry, *(g for _, g in program.gradients)])}
    axes = {i: tiles[i].axes for i in leaves if i in tiles}
    if kernel.carry is not None and kernel.carry.leaf.id not in leaves:
        # a turned carry
        leaf = kernel.carry.leaf
        own = program.d_state if kernel.carry.reverse else program.carry
        leaves[leaf.id], axes[leaf.id] = leaves[own.id].swapaxes(0, 1), leaf.axes
    for stored in kernel.given:
        tile = strip(stored.tile)
        leaves[tile.id] = check.evaluate(tile)
        axes[tile.id] = tile.axes
    return {i: (axes.get(i, ()), v) for i, v in leaves.items()}


def _part(check, program, leaves, part):
    whole = check.evaluate
    own = {i: sliced(axes, value, part) for i, (axes, value) in leaves.items()}
    sizes = {**whole.state_sizes, "k": KEYS // PROGRAMS}
    made = Part(whole.form, whole.ring, whole.tokens, own, whole.scalars, sizes)
    object.__setattr__(made, "first", part == 0)
    return made
