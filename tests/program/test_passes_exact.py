"""Every rewrite keeps the value of every output and gradient, exactly."""

import pytest

from lincodegen.derive.chunkform import derive_group
from lincodegen.derive.timeline import read_timeline
from lincodegen.program import proof
from lincodegen.program.ir import below, is_dot, strip
from lincodegen.program.lower import lower
from lincodegen.program.orient import oriented
from lincodegen.program.passes import PASSES, push_scales
from lincodegen.program.unrolled import Unrolled
from lincodegen.schedule.kernels import computed, schedule
from lincodegen.spec.loader import load
from tests.property.unseen_specs import SPECS

TOKENS = 3


def checks(timeline, programs, sizes):
    """An evaluator of each group's tiles at one random point."""
    size = proof._Size(proof.Residues(proof.PRIMES[0], 3), sizes, TOKENS)  # noqa: SLF001
    unrolled = Unrolled(timeline, size.ring, sizes, TOKENS, proof._initial(timeline, size))  # noqa: SLF001
    unrolled.run()
    return [proof._GroupCheck(unrolled, i, p, size) for i, p in enumerate(programs)]  # noqa: SLF001


def values(program, check):
    """Every root of a program, evaluated."""
    roots = [*program.outputs, program.next_state, program.d_carry]
    roots += [g for _, g in program.gradients]
    return [check.evaluate(t) for t in roots]


def same(xs, ys):
    return all(
        x.shape == y.shape and all(a == b for a, b in zip(x.flat, y.flat, strict=True))
        for x, y in zip(xs, ys, strict=True)
    )


@pytest.mark.parametrize("name", SPECS)
def test_each_pass_keeps_every_value(name):
    timeline = read_timeline(load(SPECS[name]))
    sizes = dict.fromkeys(timeline.recurrence.dims, 3)
    programs = [lower(derive_group(g)) for g in timeline.groups]
    for index, program in enumerate(programs):
        found = checks(timeline, programs, sizes)[index]
        before = values(program, found)
        for rewrite in PASSES:
            program = rewrite(program)
            assert same(values(program, found), before), rewrite.__name__


def kernels(program):
    """(kernel, roots that the evaluator knows) of a schedule."""
    plan = schedule(program)
    for kernel in (scan for k in plan.own for scan in k.scans):
        shared = {"once"}
        yield kernel, [t for t in kernel.roots if not shared & {x.op for x in below([t])}]


def knowing_turned(program, found):
    """The evaluator, with the values of carries that roles hold transposed."""
    for kernel, _ in kernels(program):
        carry = kernel.carry
        if carry is not None and carry.leaf.id not in found.leaves:
            own = program.d_state if carry.reverse else program.carry
            found.leaves[carry.leaf.id] = found.leaves[own.id].swapaxes(0, 1)
    return found.evaluate


def emitted(name):
    """The timeline of a spec and its only program after every pass."""
    timeline = read_timeline(load(SPECS[name]))
    programs = [lower(derive_group(g)) for g in timeline.groups]
    for rewrite in PASSES:
        programs = [rewrite(p) for p in programs]
    return timeline, programs


@pytest.mark.parametrize("name", SPECS)
def test_orientation_keeps_every_value(name):
    timeline, programs = emitted(name)
    sizes = dict.fromkeys(timeline.recurrence.dims, 3)
    for program, found in zip(programs, checks(timeline, programs, sizes), strict=True):
        evaluate = knowing_turned(program, found)
        for kernel, roots in kernels(program):
            given = {strip(s.tile).id for s in kernel.given}
            made = oriented(program.graph, roots, given)
            old = {t.id: t for t in computed(roots, kernel.given)}
            for tile in old.values():
                assert same([evaluate(made[tile.id])], [evaluate(tile)]), kernel.name


@pytest.mark.parametrize("name", SPECS)
def test_one_sided_gradients_are_the_gradients(name):
    """Clocks where there were products of P and dP, carries turned: the same values."""
    timeline, programs = emitted(name)
    sizes = dict.fromkeys(timeline.recurrence.dims, 3)
    for program, found in zip(programs, checks(timeline, programs, sizes), strict=True):
        one, known = program.one_sided, dict(program.gradients)
        assert (one is not None) or name not in ("broadcast_write", "sigmoid_decay")
        for leaf, gradient in (*one.loads, *one.logs) if one else ():
            assert same([found.evaluate(gradient)], [found.evaluate(known[leaf])]), repr(leaf)
        evaluate = knowing_turned(program, found)
        for kernel, _ in kernels(program):
            if kernel.carry is not None and kernel.carry.leaf.axes == ("v", "k"):
                whole = program.d_carry if kernel.carry.reverse else program.next_state
                assert same([evaluate(kernel.carry.update)], [evaluate(whole).swapaxes(0, 1)])


@pytest.mark.parametrize(
    "name", ["reads_around", "early_and_late", "value_side", "four_factors", "rank_two_early"]
)
def test_no_product_takes_the_transpose_of_a_computed_one(name):
    _, programs = emitted(name)
    seen = 0
    for program in programs:
        for kernel, roots in kernels(program):
            given = {strip(s.tile).id for s in kernel.given}
            made = oriented(program.graph, roots, given)
            for tile in computed([made[t.id] for t in roots], kernel.given):
                if tile.op != "ein" or not is_dot(tile):
                    continue
                row, column = tile.axes
                for arg in tile.args:
                    wrong = arg.axes[0] == column if row not in arg.axes else arg.axes[1] == row
                    assert not (wrong and _holds_dot(arg, given)), f"{kernel.name}: {arg!r}"
                    seen += 1
    assert seen > 20


def _holds_dot(tile, given):
    if strip(tile).id in given or not tile.args:
        return False
    return is_dot(tile) or any(_holds_dot(a, given) for a in tile.args)


def test_scales_leave_dots():
    timeline = read_timeline(load(SPECS["other_erase_key"]))
    program = lower(derive_group(timeline.groups[0]))
    for rewrite in PASSES:
        program = rewrite(program)
    for tile in below([*program.outputs, *(g for _, g in program.gradients)]):
        if tile.op == "ein" and is_dot(tile):
            assert not {strip(a).op for a in tile.args} & {"scale", "factor"}
    again = push_scales(program)
    assert again.outputs == program.outputs
    assert again.gradients == program.gradients
