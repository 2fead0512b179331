"""The normal form: which events, points and operands a step is read as."""

import pytest

from lincodegen.derive.events import Decay, Rank1
from lincodegen.derive.timeline import read_timeline
from lincodegen.spec.loader import load
from tests.property.unseen_specs import SPECS, spec


def group_of(step, **blocks):
    return read_timeline(load(spec("probe", step, **blocks))).groups[0]


def kinds(group):
    """A letter an event: d, D a scalar and a channel decay, m, w a solved and a plain row."""
    return "".join(
        ("D" if e.channel else "d")
        if isinstance(e, Decay)
        else ("w" if e.b is None else f"m{e.read}")
        for e in group.events
    )


@pytest.mark.parametrize(
    ("name", "events", "reads"),
    [
        ("other_erase_key", "dm1w", "3"),
        ("gated_erase_gated_write", "m0", "1"),
        ("reads_around", "dm1", "012"),
        ("two_decays", "dm1d", "23"),
        ("two_channel_decays", "Dm1Dw", "4"),
        ("scalar_and_channel_decay", "dm1D", "23"),
        ("value_side", "m0w", "2"),
        ("rank_two_early", "dm0m0w", "4"),
        ("early_and_late", "Dm0m1w", "4"),
        ("three_factors_channel", "Dm1m2m3", "4"),
        ("four_decays_between", "dm1dm3dm5dm7", "8"),
        ("vector_state", "Dw", "2"),
        ("vector_rank_one", "dm1w", "3"),
        ("householder_matrix", "m0w", "2"),
        ("rank_r_write", "dww", "3"),
        ("mixed_signs", "dm1m2w", "4"),
    ],
)
def test_events_and_points(name, events, reads):
    group = read_timeline(load(SPECS[name])).groups[0]
    assert kinds(group) == events
    assert sorted(str(r.at) for r in group.reads) == sorted(reads)


def test_operands_of_a_gated_delta_rule_are_raw():
    group = group_of("S = exp(g) * S\nS = S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    decay, event = group.events
    assert isinstance(event, Rank1)
    assert (decay.log.op, decay.log.attr) == ("input", ("g",))
    names = {n: getattr(event, n).attr[0] for n in "abcs"}
    assert names == {"a": "k", "b": "k", "c": "v", "s": "beta"}
    assert event.a == event.b
    assert event.sign == -1
    assert not group.flipped


def test_an_update_in_one_line_reads_before_its_decay():
    """Python evaluates the right side with the old state: S.T @ k is the undecayed read."""
    group = group_of("S = exp(g) * S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    assert kinds(group) == "dm0"


def test_the_decayed_state_in_one_line_reads_after_it():
    group = group_of("S = exp(g) * (S - beta * outer(k, S.T @ k)) + outer(k, v)\no = S.T @ q")
    assert [type(e) for e in group.events] == [Decay, Rank1, Rank1]
    solved = next(e for e in group.events if isinstance(e, Rank1) and e.b is not None)
    scales = [n.op for n in solved.s.walk()] if solved.s else []
    assert solved.read == 0
    assert "exp" in scales


def test_the_value_side_is_held_transposed():
    group = group_of("S = S - outer(S @ u, u) + outer(d, v)\no = S.T @ q")
    assert group.flipped
    assert [r.column for r in group.reads] == [True]


def test_a_decay_by_keys_and_one_by_values_take_their_own_side():
    by_key = group_of("S = exp(gk)[:, None] * S + outer(d, v)\no = S.T @ q")
    by_value = group_of("S = S * exp(gv)[None, :] + outer(d, v)\no = S.T @ q")
    assert (by_key.flipped, by_value.flipped) == (False, True)
    assert [r.column for r in by_value.reads] == [True]


@pytest.mark.parametrize(
    ("factor", "log"),
    [
        ("exp(g)", "input"),
        ("sigmoid(raw)", "neg"),
        ("0.9", "number"),
        ("2 ** minimum(raw, 0)", "mul"),
        ("keep", "safe_log"),
        ("exp(g) * exp(h)", "add"),
        ("sqrt(keep)", "mul"),
        ("keep ** 2", "mul"),
        ("where(raw > 0, exp(g), keep)", "where"),
        ("1 / (1 + exp(raw))", "safe_log"),
        ("abs(raw)", "safe_log"),
    ],
)
def test_logs_of_decay_factors(factor, log):
    group = group_of(f"S = {factor} * S + outer(k, v)\no = S.T @ q")
    assert isinstance(group.events[0], Decay)
    assert group.events[0].log.op == log


@pytest.mark.parametrize(
    ("factor", "bound"),
    [("exp(slowk)", -1.0), ("keepk", float("-inf")), ("soft * exp(slowk)", -4.912023005428146)],
)
def test_bounds_of_channel_decays(factor, bound):
    group = group_of(f"S = diag({factor}) @ S + outer(k, v)\no = S.T @ q")
    decays = [e.bound for e in group.events if isinstance(e, Decay)]
    assert sum(decays) == pytest.approx(bound)


def test_events_of_both_signs_are_made_one():
    group = read_timeline(load(SPECS["mixed_signs"])).groups[0]
    solved = [e for e in group.events if isinstance(e, Rank1) and e.b is not None]
    assert len({e.sign for e in solved}) == 1
    assert any(n.op == "neg" or n.attr == (-1,) for e in solved if e.s for n in e.s.walk())


def test_equal_reads_are_one():
    group = group_of(
        """
        S = exp(g) * S + outer(k, v)
        x = S.T @ q
        o = S.T @ q + x
        """
    )
    assert len(group.reads) == 1


def test_a_constant_factor_stays_on_the_result():
    group = group_of(
        "S = exp(g) * S + outer(k, v)\no = scale * S.T @ q",
        constants="{scale: K**-0.5}",
    )
    (read,) = group.reads
    assert read.q.attr == ("q",)
    assert read.factor is not None
    assert read.factor.op == "constant"


def test_clocks_count_decays_by_kind():
    group = read_timeline(load(SPECS["scalar_and_channel_decay"])).groups[0]
    assert [group.clocks(p) for p in range(4)] == [(0, 0), (1, 0), (1, 0), (1, 1)]


def test_a_later_group_reads_an_earlier_one():
    timeline = read_timeline(load(SPECS["two_groups"]))
    first, second = timeline.groups
    assert first.state.name == "C"
    leaves = [n for r in second.reads for n in r.q.walk() if n.op == "read"]
    assert [n.attr for n in leaves] == [(0, 0)]


def test_groups_follow_dependence_not_the_order_of_the_file():
    text = spec(
        "probe",
        """
        S = exp(g) * S + outer(k, C.T @ k)
        C = exp(g) * C + outer(d, v)
        o = S.T @ q
        """,
        state="{S: {shape: [K, V]}, C: {shape: [K, V]}}",
    )
    timeline = read_timeline(load(text))
    assert [g.state.name for g in timeline.groups] == ["C", "S"]
    assert timeline.groups[0].reads[0].at == 0
