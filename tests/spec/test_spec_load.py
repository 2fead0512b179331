"""Specs without mistakes: shapes, names, loops, constants, defaults, places."""

from __future__ import annotations

import subprocess
import sys

import pytest
from spec_reading import read, texts, value

from lincodegen.errors import SpecError
from lincodegen.spec import load
from lincodegen.spec.dims import Dim
from lincodegen.spec.shapes import shown
from lincodegen.spec.step import Node, Place


@pytest.mark.parametrize(
    ("expression", "shape"),
    [
        ("q", "[K]"),
        ("q + k", "[K]"),
        ("g * m", "[K, V]"),
        ("m + v", "[K, V]"),
        ("m * q[:, None]", "[K, V]"),
        ("q[:, None] * v[None, :]", "[K, V]"),
        ("q[:, None] * k", "[K, K]"),
        ("m[None]", "[1, K, V]"),
        ("m[:, None, :]", "[K, 1, V]"),
        ("m[None, :, :, None]", "[1, K, V, 1]"),
        ("m[None] + x[0][:, None]", "[1, K, V]"),
        ("m.T", "[V, K]"),
        ("m.T @ q", "[V]"),
        ("q @ m", "[V]"),
        ("q @ k", "[]"),
        ("m @ m.T", "[K, K]"),
        ("outer(q, v)", "[K, V]"),
        ("dot(q, k)", "[]"),
        ("diag(q)", "[K, K]"),
        ("diag(exp(q)) @ m", "[K, V]"),
        ("ravel(m)", "[K*V]"),
        ("ravel(outer(q, q))", "[K*K]"),
        ("concat(q, v)", "[K + V]"),
        ("concat(ones(1), q, ravel(outer(q, q)))", "[1 + K + K*K]"),
        ("concat(m, m)", "[2*K, V]"),
        ("concat(m)", "[K, V]"),
        ("where(q < g, k, 0)", "[K]"),
        ("where(q == k, m.T, 1)", "[V, K]"),
        ("maximum(m, v)", "[K, V]"),
        ("sum(m)", "[]"),
        ("sum(m, axis=0)", "[V]"),
        ("mean(m, axis=-1)", "[K]"),
        ("cumsum(q)", "[K]"),
        ("softmax(m)", "[K, V]"),
        ("layernorm(q)", "[K]"),
        ("x[0]", "[K]"),
        ("x[-1]", "[K]"),
        ("x[1, 0]", "[]"),
        ("x[1:3]", "[2, K]"),
        ("x[-2:]", "[2, K]"),
        ("x[1]", "[K]"),
        ("q[0]", "[]"),
        ("q[:]", "[K]"),
        ("concat(q, k, q)[K:3 * K]", "[2*K]"),
        ("concat(q, v)[K:]", "[V]"),
        ("concat(q, v)[:K]", "[K]"),
        ("q[1:]", "[-1 + K]"),
        ("ones(K) * q", "[K]"),
        ("ones(K, V) * g", "[K, V]"),
        ("zeros((K, V)) + g", "[K, V]"),
        ("zeros(2 * K + 1) + g", "[1 + 2*K]"),
        ("eye(K) @ m", "[K, V]"),
        ("-q", "[K]"),
        ("+q", "[K]"),
        ("q**2", "[K]"),
        ("2**q", "[K]"),
        ("g * K**-0.5 * v", "[V]"),
    ],
)
def test_shapes(expression, shape):
    assert shown(value(expression).shape) == shape


def test_shapes_compare_as_polynomials():
    """K and V differ even where their sizes might agree; the order of factors does not."""
    head = "name: a\ninputs: {q: {shape: [K]}, p: {shape: [W]}}\n"
    state = "state: {S: {shape: [K * W + K + 1]}, R: {shape: [(1 + W) * K + 1]}}\n"
    lines = ("S = concat(ones(1), q, ravel(outer(p, q)))", "R = S", "o = R")
    assert read(*lines, head=head, more=state).states[1].shape == (
        Dim.of(1) + "K" + Dim.of("K") * "W",
    )
    with pytest.raises(SpecError, match=r"`\+` of the shapes \[K\] and \[W\]"):
        read("o = q + p", head=head)


@pytest.mark.parametrize(
    ("expression", "op", "attr"),
    [
        ("q**2", "pow", (2,)),
        ("q**-0.5", "pow", (-0.5,)),
        ("2**q", "exp_base", (2.0,)),
        ("K**-0.5 * q", "mul", ()),
        ("x[-1]", "index", (3,)),
        ("x[1:3]", "slice", (Dim.of(1), Dim.of(3))),
        ("concat(q, v)[K:]", "slice", (Dim.of("K"), Dim.of("K") + "V")),
        ("q[:, None]", "expand", (1,)),
        ("sum(m)", "sum", (None,)),
        ("mean(m, axis=-1)", "mean", (1,)),
        ("softmax(m)", "softmax", (1,)),
        ("cumsum(q)", "cumsum", (0,)),
        ("l2norm(m)", "l2norm", ()),
        ("where(q >= 0, q, k)", "where", (">=",)),
        ("eye(K)", "eye", ()),
    ],
)
def test_nodes(expression, op, attr):
    node = value(expression + (" + g" if op == "eye" else ""))
    node = node.args[0] if op == "eye" else node
    assert (node.op, node.attr) == (op, attr)


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("1 / 2", 0.5),
        ("7 // 2 + 7 % 2", 4),
        ("2**10", 1024),
        ("2**-1", 0.5),
        ("-3 + 1", -2),
        ("sqrt(16)", 4.0),
        ("exp(0)", 1.0),
        ("1e-30", 1e-30),
        ("n * n", 9),
    ],
)
def test_numbers_are_folded(expression, number):
    node = value(f"q * ({expression})", more="constants: {n: 3}\n").args[1]
    assert (node.op, node.attr) == ("number", (number,))
    assert type(node.attr[0]) is type(number)


def test_operators_of_one_precedence_group_from_the_left():
    assert value("g * m.T @ q") == value("(g * m.T) @ q")
    assert value("g - g - g") == value("(g - g) - g")
    assert value("-g**2").op == "neg"


def test_augmented_assignment_is_the_operator():
    for symbol, operand in (("+", "q"), ("-", "q"), ("*", "g"), ("/", "g"), ("**", "2")):
        short = read("o = k", f"o {symbol}= {operand}").step[1].value
        assert short == read("o = k", f"o = o {symbol} {operand}").step[1].value
    state = "state: {S: {shape: [K, V]}}\n"
    short = read("S @= outer(v, v)", "o = S", more=state).step[0].value
    assert short == read("S = S @ outer(v, v)", "o = S", more=state).step[0].value


def test_statements_in_order_and_references():
    state = "state: {S: {shape: [K, V]}}\n"
    recurrence = read(
        "o = S.T @ q", "S0 = S", "S = S * g", "S = S + S0", "p = S", more=state, outputs="o, p, S"
    )
    assert texts(recurrence)[:5] == ["S.T @ q", "S", "S * g", "S#2 + S0#1", "S#3"]
    assert [statement.state for statement in recurrence.step][:5] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert [name for name, _ in recurrence.outputs] == ["o", "p", "S", "all_"]
    assert [node.attr[0] for _, node in recurrence.outputs] == [0, 4, 3, 5]
    assert recurrence.final("S") == Node("ref", (), (3,), recurrence.states[0].shape)


def test_an_input_s_name_becomes_a_local():
    recurrence = read("k = l2norm(k)", "k = k * 2", "o = k")
    assert texts(recurrence)[:3] == ["l2norm(k)", "k#0 * 2", "k#1"]
    assert not recurrence.step[0].state


def test_loops_are_unrolled_and_names_carry_over():
    lines = (
        "a = g",
        "for i in range(2):",
        "    for j in range(i, 3):",
        "        a = a * x[j] + i",
        "        last = x[j]",
        "o = a + last",
    )
    found = texts(read(*lines))
    assert found[1] == "a#0 * x[0] + 0"
    assert [text for text in found if text.startswith("a#")][:5] == [
        "a#0 * x[0] + 0",
        "a#1 * x[1] + 0",
        "a#3 * x[2] + 0",
        "a#5 * x[1] + 1",
        "a#7 * x[2] + 1",
    ]
    assert found[-2] == "a#9 + last#10"


def test_loop_variables_in_indices_slices_and_values():
    found = texts(read("for j in range(1, 3): o = j * x[3 - j] + sum(x[j - 1:j + 1], axis=0)"))
    assert found[0] == "1 * x[2] + sum(x[0:2], axis=0)"
    assert found[1] == "2 * x[1] + sum(x[1:3], axis=0)"


def test_a_loop_without_passes_assigns_nothing():
    assert texts(read("o = q", "for j in range(2, 2):", "  o = k"))[0] == "q"
    assert len(read("o = q", "for j in range(3, 1):", "  o = k").step) == 2


def test_a_loop_variable_may_serve_again():
    assert (
        len(read("for j in range(2):", "  o = x[j]", "for j in range(2):", "  o = o + j").step) == 5
    )


def test_limit_of_statements():
    most = read("o = q", "for j in range(4094):", "  o = o + j")
    assert len(most.step) == 4096
    with pytest.raises(SpecError, match="more than 4096 statements"):
        read("o = q", "for j in range(4095):", "  o = o + j")


def test_lines_may_break_inside_of_brackets():
    recurrence = load(
        "name: a\ninputs:\n  q: {shape: [K]}\nstep: |\n\n  # ünïcode in a comment\n"
        "  x = (q +   # first\n       exp(\n     q))\n\n  o = x; p = o\noutputs: [o, p]\n"
    )
    inner = recurrence.step[0].value.args[1]
    assert (inner.op, inner.place) == ("exp", Place(8, 8))
    assert inner.args[0].place == Place(9, 6)
    assert [statement.place for statement in recurrence.step] == [
        Place(7, 3),
        Place(11, 3),
        Place(11, 10),
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("step: o = q\n", Place(3, 7)),
        ('step: "o = q"\n', Place(3, 8)),
        ("step: |\n      o = q\n", Place(4, 7)),
        ("step: |2\n    o = q\n", Place(4, 5)),
        ("step: |-  # comment\n\n o = q\n", Place(5, 2)),
    ],
)
def test_places_of_the_step(text, place):
    recurrence = load(f"name: a\ninputs: {{q: {{shape: [K]}}}}\n{text}")
    assert recurrence.step[0].place == place


def test_windows_line_ends(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(
        b"name: a\r\ninputs: {q: {shape: [K]}}\r\nstep: |\r\n  o = q\r\n  p = o\r\n"
        b"outputs: [o, p]\r\n"
    )
    recurrence = load(file)
    assert [statement.place for statement in recurrence.step] == [Place(4, 3), Place(5, 3)]
    assert "\r" not in recurrence.source


def test_scalars_stay_text():
    """Neither `no` nor `on` nor a date means anything but its letters."""
    recurrence = load(
        "name: no\ntitle: 2024-01-01\ndoc: yes\nreference: 1e3\ninputs:\n  on: {shape: []}\n"
        "  no: {shape: [], doc: null}\nstep: o = on * no\n"
    )
    assert (recurrence.name, recurrence.title, recurrence.doc) == ("no", "2024-01-01", "yes")
    assert recurrence.reference == "1e3"
    assert [(tensor.name, tensor.doc) for tensor in recurrence.inputs] == [
        ("on", ""),
        ("no", "null"),
    ]


def test_dimensions_in_order_of_appearance():
    recurrence = load(
        "name: a\ninputs: {v: {shape: [V]}, k: {shape: [K, 2 * R]}}\n"
        "parameters: {u: {shape: [M, V]}}\nstep: o = sum(v) + sum(k) + sum(u)\n"
    )
    assert recurrence.dims == ("V", "K", "R", "M")
    assert recurrence.inputs[1].shape == (Dim.of("K"), Dim.of("R") * 2)


def test_names_that_only_look_reserved():
    """h and H mean heads in defaults alone; B and N are names of tensors, not of dimensions."""
    recurrence = load(
        "name: a\ninputs: {B: {shape: [K]}, N: {shape: [K]}}\nstate: {h: {shape: [K]}}\n"
        "step: |\n  h = h + B\n  o = h * N\n"
    )
    assert recurrence.states[0].name == "h"


def test_step_module_needs_no_yaml():
    """What runs where only torch is installed must not import the parser."""
    code = (
        "import sys; import lincodegen.spec.step, lincodegen.spec.serialize; "
        "sys.exit(any(name.split('.')[0] in ('ruamel', 'torch', 'sympy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
