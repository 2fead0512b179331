"""Decayed products that share their decays: which do, and that no order is broken."""

import pytest

from lincodegen.program.ir import strip
from lincodegen.program.orient import oriented
from lincodegen.schedule.kernels import computed, schedule
from lincodegen.schedule.together import gathered, loop_stages, points, together
from lincodegen.spec.loader import load
from tests.property.chunk_op import compiled
from tests.property.unseen_specs import SPECS, spec

ERASE = "S = exp(gk)[:, None] * S\nS = S + beta * outer(k, v - S.T @ k)\no = S.T @ q"


def kernels_of(text):
    """(program, tiles in order, stages, groups) of every kernel by its name."""
    for program in compiled(load(text))[1]:
        plan = schedule(program)
        for kernel in {id(scan): scan for k in plan.kernels for scan in k.scans}.values():
            given = {strip(s.tile).id for s in kernel.given}
            mapped = oriented(program.graph, kernel.roots, given)
            order = computed([mapped.get(t.id, t) for t in kernel.roots], kernel.given)
            stages = loop_stages(order, kernel.looped)
            yield kernel.name, program, order, stages, together(program, order, stages)


def test_products_of_a_kind_share_their_decays():
    sizes = {
        name: sorted(map(len, groups)) for name, *_, groups in kernels_of(spec("probe", ERASE))
    }
    assert sizes["prep_fwd"] == [2]
    # the gram that is computed again; both sums over writes, both over reads
    assert sizes["gradient_bwd"] == [1, 2, 2]
    assert sizes["scan_fwd"] == sizes["scan_bwd"] == []


def test_reads_before_and_after_a_decay_share_nothing():
    early = (
        "S0 = S\nS = exp(gk)[:, None] * S + outer(k, S0.T @ k)\nS = S + outer(k, v)\no = S.T @ q"
    )
    for name, program, _, _, groups in kernels_of(spec("probe", early)):
        for group in groups:
            places = {tuple(points(program, at) for at in tile.attr) for tile in group}
            assert len(places) == 1, name
    prep = next(groups for name, *_, groups in kernels_of(spec("probe", early)) if "prep" in name)
    assert len(prep) > 1


@pytest.mark.parametrize("name", SPECS)
def test_what_a_product_needs_stands_before_its_group(name):
    for kernel, _, order, stages, groups in kernels_of(SPECS[name]):
        placed = gathered(order, groups)
        assert sorted(t.id for t in placed) == sorted(t.id for t in order), kernel
        at = {tile.id: i for i, tile in enumerate(placed)}
        assert all(at[a.id] < at[t.id] for t in placed for a in t.args if a.id in at), kernel
        for group in groups:
            first = at[group[0].id]
            assert [at[t.id] for t in group] == [*range(first, first + len(group))]
            assert len({stages[t.id] for t in group}) == 1
            assert all(at.get(strip(a).id, -1) < first for t in group for a in t.args)


def test_a_dead_slot_stands_where_the_last_live_one_does():
    thrice = "".join(f"S = exp(gk)[:, None] * S + outer({k}, v)\n" for k in ("k", "q", "k"))
    found = {
        points(program, at)
        for _, program, order, _, _ in kernels_of(spec("probe", f"{thrice}o = S.T @ q"))
        for tile in order
        if tile.op == "contract"
        for at in tile.attr
    }
    assert found == {(1, 2, 3, 3), (3,)}
