"""Constants, domains and defaults; what is fixed when a spec is read and what is an argument."""

from __future__ import annotations

import math

import pytest
from spec_reading import texts

from lincodegen.errors import SpecError
from lincodegen.spec import load
from lincodegen.spec.dims import Dim
from lincodegen.spec.printing import format_node
from lincodegen.spec.step import REALS, Interval

CONSTANTS = """\
name: a
inputs:
  q: {shape: [n, K]}
  p: {shape: [2 * n]}
constants: {n: 2, m: 3 * n - 1, scale: K**-0.5, eps: 1e-30, both: scale * eps / n, K: 64}
step: |
  o = (scale + both) * q[n - 1] + m + sum(p)
"""


def test_constants():
    """Integers are fixed when the spec is read, other numbers are arguments."""
    free = load(CONSTANTS.replace(", K: 64", ""))
    assert [c.name for c in free.constants] == ["scale", "eps", "both"]
    assert free.dims == ("K",)
    assert free.inputs[0].shape == (Dim.of(2), Dim.of("K"))
    assert free.inputs[1].shape == (Dim.of(4),)
    scale, eps, both = (c.default for c in free.constants)
    assert (scale.op, scale.attr, scale.args[0].attr) == ("pow", (-0.5,), (Dim.of("K"),))
    assert eps.attr == (1e-30,)
    assert format_node(both, ()) == "scale * eps / 2"
    assert texts(free) == ["(scale + both) * q[1] + 5 + sum(p)"]


def test_a_fixed_dimension():
    """A constant may fix a dimension, also one that constants above it read."""
    fixed = load(CONSTANTS)
    assert fixed.dims == ()
    assert fixed.inputs[0].shape == (Dim.of(2), Dim.of(64))
    assert fixed.constants[0].default.attr == (0.125,)


def test_set_overrides_integers_and_fixes_dimensions():
    changed = load(CONSTANTS, sets={"n": 4, "K": 16})
    assert changed.inputs[0].shape == (Dim.of(4), Dim.of(16))
    assert changed.inputs[1].shape == (Dim.of(8),)
    assert texts(changed) == ["(scale + both) * q[3] + 11 + sum(p)"]
    assert changed.constants[0].default.attr == (0.25,)
    free = load(CONSTANTS.replace(", K: 64", ""), sets={"K": 4})
    assert free.dims == ()
    assert load(CONSTANTS, sets={"m": 1}).inputs == load(CONSTANTS).inputs


def test_an_integer_without_a_dot_is_no_argument():
    text = "name: a\ninputs: {q: {shape: []}}\nconstants: {scale: SCALE}\nstep: o = scale * q\n"
    assert load(text.replace("SCALE", "1")).constants == ()
    assert [c.name for c in load(text.replace("SCALE", "1.0")).constants] == ["scale"]
    assert [c.name for c in load(text.replace("SCALE", "4 / 2")).constants] == ["scale"]
    assert load(text.replace("SCALE", "4 // 2")).constants == ()


def test_constants_divide_dimensions():
    text = "name: a\ninputs: {q: {shape: [K]}}\nconstants: {c: K // 2 + K % 3}\nstep: o = c * q\n"
    default = load(text).constants[0].default
    assert [arg.op for arg in default.args] == ["floordiv", "mod"]
    assert format_node(default, ()) == "K // 2 + K % 3"


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("[0, 1]", Interval(0.0, 1.0)),
        ("(0, 1]", Interval(0.0, 1.0, False, True)),
        ("[-inf, 0]", Interval(-math.inf, 0.0)),
        ("(-inf, inf)", REALS),
        (" [ -1 , 1 ) ", Interval(-1.0, 1.0, True, False)),
        ("[-exp(-0.5), 0]", Interval(-math.exp(-0.5), 0.0)),
        ("[low, (n + 1) * 2]", Interval(-2.5, 8.0)),
        ("[0, 0]", Interval(0.0, 0.0)),
    ],
)
def test_domains(text, interval):
    recurrence = load(
        f'name: a\ninputs: {{q: {{shape: [K], domain: "{text}"}}}}\n'
        "constants: {low: -2.5, n: 3}\nstep: o = low * q\n"
    )
    assert recurrence.inputs[0].domain == interval
    assert recurrence.inputs[0].norm is None


def test_defaults_know_head_index_and_count():
    recurrence = load(
        "name: a\ninputs: {q: {shape: [K]}, h: {shape: []}}\n"
        "parameters: {g: {shape: [], default: 'log1p(-2**(-5 - h)) * s / (H * K)'}}\n"
        "constants: {s: 0.5}\nstep: o = exp(g) * q * h\n"
    )
    default = recurrence.parameters[0].default
    assert default is not None
    leaves = {
        (node.op, node.attr[0]) for node in default.walk() if node.op in ("input", "constant")
    }
    assert leaves == {("input", "h"), ("input", "H"), ("constant", "s")}
    assert format_node(default, ()) == "log1p(-2.0**(-5 - h)) * s / (H * K)"
    with pytest.raises(SpecError, match="head index"):
        load(
            "name: a\ninputs: {q: {shape: [], default: h}}\nconstants: {h: 0.5}\nstep: o = q * h\n"
        )


def test_text_and_path_give_one_recurrence(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(CONSTANTS)
    by_path, by_name, by_text = load(file), load(str(file)), load(CONSTANTS)
    assert by_path == by_name
    assert by_path.file == file.as_posix()
    assert (by_text.file, by_text.source) == ("<text>", CONSTANTS)
    assert by_text.step == by_path.step
