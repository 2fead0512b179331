"""The cut of a program into kernels: everything computed once it is needed, nothing lost."""

import pytest

from lincodegen.program.ir import below, contracted, strip
from lincodegen.schedule.kernels import computed, schedule
from lincodegen.spec.loader import load
from tests.property.chunk_op import compiled
from tests.property.unseen_specs import SPECS, spec

ERASE = """
S = exp(gk)[:, None] * S
S = S + beta * outer(k, v - S.T @ k)
o = S.T @ q
"""


def plans(name):
    return [schedule(p) for p in compiled(load(SPECS[name]))[1]]


def plan_of(step, **blocks):
    (program,) = compiled(load(spec("probe", step, **blocks)))[1]
    return schedule(program)


def kernels(plan):
    """Every kernel; each role of several on one grid stands for itself."""
    whole = (*plan.forward, plan.split, plan.states, *plan.backward)
    return tuple({scan.name: scan for k in whole for scan in k.scans}.values())


@pytest.mark.parametrize("name", SPECS)
def test_every_result_is_stored_once(name):
    for plan in plans(name):
        program = plan.program
        reads = [s.name for k in plan.forward for s in k.outputs if k.role == "scan"]
        assert len(reads) == len(program.outputs)
        assert [s.name for s in plan.split.outputs] == reads
        names = [s.name for k in plan.backward for s in k.outputs]
        assert len(set(names)) == len(names)
        operands = {program.operand(leaf).name for leaf, _ in program.gradients}
        assert {f"d{n}" for n in operands} <= set(names)


@pytest.mark.parametrize("name", SPECS)
def test_what_a_kernel_is_given_was_stored_before(name):
    for plan in plans(name):
        early = [k for k in plan.forward if k.role != "scan"]
        for order in ((*plan.forward, *plan.backward), (*early, *plan.instead)):
            stored = set()
            for kernel in order:
                assert {s.name for s in kernel.given} <= stored, kernel.name
                stored |= {s.name for s in kernel.outputs}
                carries = [scan.carry for scan in kernel.scans if scan.carry]
                stored |= {carry.kept for carry in carries if carry.kept}


@pytest.mark.parametrize("name", SPECS)
def test_kernels_hold_what_they_need(name):
    """Below the roots lie only leaves and given tiles; a scan's carry is its own."""
    for plan in plans(name):
        for kernel in kernels(plan):
            given = {strip(s.tile).id for s in kernel.given}
            own = {kernel.carry.leaf.id} if kernel.carry else set()
            for tile in computed(kernel.roots, kernel.given):
                if tile.op == "carry":
                    assert tile.id in own, f"{kernel.name} needs the state {tile!r}"
            needed = {strip(a).id for t in computed(kernel.roots, kernel.given) for a in t.args} | {
                strip(t).id for t in kernel.roots
            }
            assert given <= needed, f"{kernel.name} loads what it does not use"


@pytest.mark.parametrize("name", SPECS)
def test_no_axis_is_shared_out_that_is_summed(name):
    for plan in plans(name):
        for kernel in kernels(plan):
            inside = computed(kernel.roots, kernel.given)
            if kernel.tiled == "v":
                assert not any("v" in contracted(t) for t in inside), kernel.name
            if kernel.tiled == "k":
                sums = {t.id for t in inside if "k" in contracted(t)}
                parts = {s.tile.id for s in kernel.outputs if s.kind == "parts"}
                whole = [s for s in kernel.outputs if s.kind != "parts"]
                for stored in whole:
                    assert not sums & {t.id for t in computed([stored.tile], kernel.given)}
                assert bool(parts) == any("k" not in s.tile.axes for s in kernel.outputs)


@pytest.mark.parametrize("name", SPECS)
def test_a_loop_over_an_axis_passes_once(name):
    """No sum over the looped axis flows into another one, nor into a tile over the axis."""
    for plan in plans(name):
        for kernel in kernels(plan):
            axis = kernel.looped
            if axis is None:
                continue
            inside = computed(kernel.roots, kernel.given)
            sums = {t.id for t in inside if axis in contracted(t)}
            assert sums
            for tile in inside:
                under = {t.id for a in tile.args for t in computed([a], kernel.given)}
                if under & sums:
                    assert tile.id not in sums
                    assert axis not in tile.axes


@pytest.mark.parametrize("name", SPECS)
def test_stores_have_names_of_their_own(name):
    for plan in plans(name):
        program = plan.program
        operands = {o.name for _, o in program.operands} | {o.name for _, o, _ in program.logs}
        gradients = {f"d{n}" for n in operands}
        for kernel in kernels(plan):
            for stored in kernel.outputs:
                assert stored.name not in operands
                one_sided = kernel.role in ("keys", "values", "clocks") and stored.kind == "rows"
                is_gradient = (stored.kind == "parts" or one_sided) or any(
                    strip(stored.tile) is strip(g) for _, g in program.gradients
                )
                assert stored.name not in gradients or is_gradient


def test_operands_named_like_stores_stay_apart():
    text = spec("probe", "S = exp(h) * S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    text = text.replace("  q:", "  z:").replace("@ q", "@ z")
    (program,) = compiled(load(text))[1]
    plan = schedule(program)
    stores = {s.name for k in kernels(plan) for s in k.outputs}
    stores |= {k.carry.kept for k in kernels(plan) if k.carry and k.carry.kept}
    operands = {o.name for _, o in program.operands} | {o.name for _, o, _ in program.logs}
    assert not stores & operands


def test_no_prep_kernel_without_an_inverse_or_a_decayed_gram():
    plain = plan_of("S = exp(g) * S + outer(k, v)\no = S.T @ q")
    erase = plan_of("S = S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    channel = plan_of("S = exp(gk)[:, None] * S + outer(k, v)\no = S.T @ q")
    assert [k.role for k in plain.forward] == ["scan"]
    assert [k.role for k in erase.forward] == ["prep", "scan"]
    assert [k.role for k in channel.forward if k.role != "decay"] == ["prep", "scan"]
    assert [s.tile.op for s in erase.forward[0].outputs] == ["inverse"]
    assert [s.tile.op for s in channel.forward[0].outputs] == ["contract"]


def test_decayed_operands_come_from_a_kernel_of_their_own():
    """Two clocks of a chunk, one value a channel, would take every register of a scan."""
    channel = plan_of("S = exp(gk)[:, None] * S + outer(k, v)\no = S.T @ q")
    twice = plan_of("S = exp(gk)[:, None] * S + outer(k, v)\nS = S + outer(q, v)\no = S.T @ q")
    scalar = plan_of("S = exp(g) * S + outer(k, v)\no = S.T @ q")
    for plan, forward, backward in ((channel, 0, 1), (twice, 1, 1), (scalar, 0, 0)):
        assert sum(k.role == "decay" for k in plan.forward) == forward
        assert sum(k.role == "decay" for k in plan.backward) == backward
        assert [k.role for k in plan.instead if k.role == "decay"] == ["decay"] * (
            backward - forward
        )
    scans = [k for plan in (channel, twice) for k in kernels(plan) if k.carry]
    for kernel in scans:
        inside = computed(kernel.roots, kernel.given)
        decays = [t for t in inside if t.op == "decay" and "k" in t.axes]
        assert bool(decays) == (kernel is channel.forward[-1]), kernel.name


def test_a_scan_that_decays_operands_multiplies_the_carry_first():
    plan = plan_of(ERASE)
    (scan,) = [k for k in plan.forward if k.role == "scan"]
    order = computed(scan.roots, scan.given)
    solved = order.index(plan.program.blocks["Z_m"])
    assert len(scan.first) == 2
    assert all(order.index(t) < solved for t in scan.first)


def test_scans_of_an_erase_share_values_out():
    plan = plan_of("S = exp(g) * S\nS = S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    assert {k.name: k.tiled for k in kernels(plan)} == {
        "prep_fwd": None,
        "scan_fwd": "v",
        "output_fwd": "v",
        "states_fwd": "v",
        "scan_bwd": "v",
        "gradient_bwd": "k",
    }


def test_additive_rules_keep_no_chunk_states():
    """Each gradient on one side: all scans on one grid, and states at borders for decays alone."""
    decayed = plan_of("S = exp(g) * S + beta * outer(k, v)\no = S.T @ q")
    plain = plan_of("S = S + outer(k, v)\no = S.T @ q")
    scans, clocks = decayed.backward
    written = {role.name: [(s.name, s.kind) for s in role.outputs] for role in scans.roles}
    assert written == {
        "keys_fwd": [("dq", "rows"), ("dG_t0", "parts")],
        "keys_bwd": [("dbeta", "parts"), ("dk", "rows"), ("dG_w", "parts")],
        "values_bwd": [("dv", "rows")],
    }
    assert [(role.carry.kept, role.carry.borders) for role in scans.roles[:2]] == [
        ("h", True),
        ("dh", True),
    ]
    assert [s.name for s in clocks.outputs] == ["dg"]
    (alone,) = plain.backward
    assert all(role.carry.kept is None for role in alone.roles)
    # what else the states do not pass through twice stays as it was
    erasing = plan_of("S = exp(g) * S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    assert not any(k.roles for k in erasing.backward)


def test_no_role_needs_both_carries():
    plan = plan_of("S = exp(g) * S + beta * outer(k, v)\no = S.T @ q")
    for role in plan.backward[0].roles:
        inside = computed(role.roots, role.given)
        assert {t.id for t in inside if t.op == "carry"} == {role.carry.leaf.id}
        assert role.carry.leaf.axes == (("v", "k") if role.tiled == "k" else ("k", "v"))


def test_a_column_read_keeps_values_whole():
    plan = plan_of("S = S + beta * outer(k, v - S.T @ k)\no = S @ u")
    scan = next(k for k in plan.forward if k.role == "scan")
    assert scan.tiled != "v"


def test_the_listing_names_every_kernel_once():
    plan = plan_of("S = exp(g) * S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    lines = str(plan).split("\n")
    names = [k.name for k in plan.kernels]
    assert sorted(line.split()[0] for line in lines) == sorted(names)


@pytest.mark.parametrize("name", SPECS)
def test_names_do_not_depend_on_chance(name):
    first, second = (
        [(k.name, [s.name for s in k.outputs]) for p in plans(name) for k in kernels(p)]
        for _ in range(2)
    )
    assert first == second
    assert all(below([s.tile]) for p in plans(name) for k in kernels(p) for s in k.outputs)


def test_a_matrix_of_a_segment_takes_columns_of_its_own():
    """What mixes rows is told from what scales them; nothing is written beyond the values."""
    erasing = plan_of("S = exp(g) * S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    scaling = plan_of("S = exp(g) * S + outer(k, v)\no = S.T @ q")
    for plan, beside in ((erasing, "identity"), (scaling, "ones")):
        forward, backward = plan.summaries
        assert (forward.beside, backward.beside) == (beside, None)
        assert (forward.outputs, backward.outputs) == ((), ())


def test_a_state_of_one_axis_stays_whole():
    found = {len(p.program.carry.axes): len(p.summaries) for n in SPECS for p in plans(n)}
    assert found == {1: 0, 2: 2}
