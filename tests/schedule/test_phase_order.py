"""Before, inside and after the loop over chunks: every tile once, in an order that works."""

import pytest

from lincodegen.program.ir import below
from lincodegen.schedule.phases import phases
from lincodegen.spec.loader import load
from tests.property.chunk_op import compiled
from tests.property.unseen_specs import SPECS


def cuts(name):
    for program in compiled(load(SPECS[name]))[1]:
        yield phases(program.outputs, program.carry, program.next_state), program


@pytest.mark.parametrize("name", SPECS)
def test_every_tile_once_and_operands_first(name):
    for cut, program in cuts(name):
        order = [*cut.before, *cut.inside, *cut.after]
        assert len({t.id for t in order}) == len(order)
        want = {t.id for t in below([*program.outputs, program.next_state])}
        assert {t.id for t in order} == want - {program.carry.id}
        seen = {program.carry.id}
        for tile in order:
            assert all(a.id in seen for a in tile.args)
            seen.add(tile.id)


@pytest.mark.parametrize("name", SPECS)
def test_before_knows_no_state_and_inside_is_only_what_the_next_state_needs(name):
    for cut, program in cuts(name):
        carry = program.carry.id
        before = {t.id for root in cut.before for t in below([root])}
        assert carry not in before
        needed = {t.id for t in below([program.next_state])}
        assert all(t.id in needed for t in cut.inside)
        assert all(carry in {x.id for x in below([t])} for t in (*cut.inside, *cut.after))
        assert not any(t.id in needed for t in cut.after)


@pytest.mark.parametrize("name", SPECS)
def test_reads_of_a_decayed_or_tied_state_leave_the_loop(name):
    """The loop itself holds no output: they follow from the kept states."""
    for cut, program in cuts(name):
        inside = {t.id for t in cut.inside}
        assert not any(t.id in inside for t in program.outputs)


def test_known_tiles_are_leaves():
    ((cut, program),) = cuts("other_erase_key")
    z = program.blocks["Z_m"]
    known = phases(program.outputs, program.carry, program.next_state, (z,))
    order = [*known.before, *known.inside, *known.after]
    assert z.id not in {t.id for t in order}
    assert len(order) < len([*cut.before, *cut.inside, *cut.after])
