"""What equations become: which tiles are loaded, computed once, or absent."""

import pytest

from lincodegen.derive.chunkform import derive_group
from lincodegen.derive.timeline import read_timeline
from lincodegen.errors import InternalError
from lincodegen.program.ir import below, is_dot
from lincodegen.program.lower import lower
from lincodegen.spec.loader import load
from tests.property.chunk_op import compiled
from tests.property.unseen_specs import SPECS, spec


def program_of(step, **blocks):
    (program,) = compiled(load(spec("probe", step, **blocks)))[1]
    return program


def forward(program):
    return below([*program.outputs, program.next_state])


def test_a_tied_event_has_one_gram():
    program = program_of("S = exp(g) * S\nS = S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    names = [o.name for _, o in program.operands]
    assert sorted(names) == ["beta", "k", "q", "v"]
    grams = [t for t in forward(program) if t.op == "ein" and is_dot(t) and "v" not in t.axes]
    assert sorted(tuple(a.axes[0] for a in t.args) for t in grams if "k" not in t.axes) == [
        ("m", "m'"),
        ("t0", "m"),
    ]


def test_an_untied_event_loads_both_keys():
    program = program_of("S = S - beta * outer(k, S.T @ e) + outer(d, v)\no = S.T @ q")
    assert {o.name for _, o in program.operands} >= {"k", "e", "d", "v", "q", "beta"}


def test_rows_of_one_axis_share_a_load():
    program = program_of(
        """
        for j in range(n):
            S = S + bn[j] * outer(kn[j], vn[j] - S.T @ kn[j])
        o = S.T @ q
        """,
        constants="{n: 3}",
    )
    slots = {o.name: len(o.nodes) for _, o in program.operands}
    assert slots == {"bn": 3, "kn": 3, "vn": 3, "q": 1}


def test_missing_values_and_scales_are_filled_in_slots_only():
    program = program_of(
        "S = S + beta * outer(k, v - S.T @ k)\nS = S - outer(e, S.T @ e)\no = S.T @ q"
    )
    by_slots = {o.axes: [n.op for n in o.nodes] for _, o in program.operands if len(o.nodes) == 2}
    assert by_slots[("m", "v")] == ["input", "zeros"]
    assert by_slots[("m",)] == ["input", "number"]


def test_no_solve_without_an_erase():
    program = program_of("S = exp(g) * S + outer(k, v)\no = S.T @ q")
    ops = {t.op for t in below([g for _, g in program.gradients])}
    assert not ops & {"solve", "inverse"}


def test_one_inverse_serves_both_solves():
    program = program_of("S = S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    tiles = below([*program.outputs, *(g for _, g in program.gradients), program.d_carry])
    assert sum(t.op == "inverse" for t in tiles) == 1
    assert not any(t.op == "solve" for t in tiles)


def test_a_constant_factor_is_a_scalar_of_the_call():
    program = program_of(
        "S = exp(g) * S + outer(k, v)\no = scale * S.T @ q", constants="{scale: K**-0.5}"
    )
    assert [s.name for s in program.scalars] == ["scale"]
    assert program.outputs[0].op == "factor"


@pytest.mark.parametrize("name", SPECS)
def test_every_operand_and_the_state_have_a_gradient(name):
    for program in compiled(load(SPECS[name]))[1]:
        found = {leaf.id for leaf, _ in program.gradients}
        used = {t.id for t in forward(program) if t.op in ("load", "log_decay")}
        assert found == used
        assert program.d_carry.axes == program.carry.axes
        for leaf, gradient in program.gradients:
            assert gradient.axes == leaf.axes


@pytest.mark.parametrize("name", SPECS)
def test_operand_names_are_distinct_identifiers(name):
    for program in compiled(load(SPECS[name]))[1]:
        names = [o.name for _, o in program.operands] + [o.name for _, o, _ in program.logs]
        assert len(set(names)) == len(names)
        assert all(n.isidentifier() for n in names)


def test_rows_that_erase_with_two_signs_are_a_mistake_of_the_reader():
    group = read_timeline(load(SPECS["mixed_signs"])).groups[0]
    from dataclasses import replace

    from lincodegen.derive.events import Rank1

    first = next(i for i, e in enumerate(group.events) if isinstance(e, Rank1))
    events = list(group.events)
    events[first] = replace(events[first], sign=-events[first].sign)
    with pytest.raises(InternalError, match="both signs"):
        lower(derive_group(replace(group, events=tuple(events))))
