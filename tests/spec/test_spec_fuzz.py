"""Whatever the text, there is a Recurrence or a SpecError, and soon."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from lincodegen.errors import SpecError
from lincodegen.resources import specs_dir
from lincodegen.spec import load
from lincodegen.spec.serialize import from_json, to_json
from lincodegen.spec.step import Recurrence

SOURCES = [path.read_text() for path in sorted(specs_dir().glob("*.yaml"))]
PIECES = [
    *" \n:|>-#&*!%@`'\"[]{}()=+/<.,?0123e~",
    "  ", "\n  ", ": ", "- ", "---\n", "<<: ", "&a ", "*a", "!!str ", "%YAML 1.1\n", "|2\n",
    "inputs", "shape", "state", "step", "constants", "K", "V", "H", "S", "q", "k", "o", "j", "t",
    "for j in range(3):", "range(9**9)", "**9**9**9", "where(", "q < k", ".T", "@", "[:, None]",
    "lambda: ", "__import__('os')", "1e999", "1j", "\\", "\t", "\x00", "\u2028", "é", "\ud800",
    "-inf", "inf", "nan", "2**2**2**2", "((((((((", "--------", '"\\x00"', '"\\UFFFFFFFF"',
    "if q: ", "x = ", "S = ", "o = ", "+= ", "// 0", "% 0", "; ", "else:", "K: 0", "n: 2",
]  # fmt: skip


def check(text):
    """Load a text; anything but a Recurrence that survives JSON, or a SpecError, fails."""
    try:
        found = load(text + "\n")
    except SpecError as error:
        told = error.problems
    else:
        told = ["a recurrence"]
        assert isinstance(found, Recurrence)
        assert from_json(json.loads(json.dumps(to_json(found), allow_nan=False))) == found
    assert told
    assert all(told)


@settings(max_examples=150, deadline=5000)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_random_pieces(text):
    check(text)


@settings(max_examples=50, deadline=5000)
@given(st.text(max_size=300))
def test_random_text(text):
    check(text)


@settings(max_examples=300, deadline=5000)
@given(
    st.sampled_from(SOURCES),
    st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 12), st.sampled_from(["", *PIECES])),
        min_size=1,
        max_size=4,
    ),
)
def test_changed_shipped_specs(source, changes):
    for start, length, piece in changes:
        start %= len(source)
        source = source[:start] + piece + source[start + length :]
    check(source)


EXPRESSIONS = st.recursive(
    st.sampled_from(["q", "k", "v", "g", "S", "K", "2", "0.5", "n", "j", "x"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "@", "**"]), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
        st.tuples(st.sampled_from(["exp", "outer", "dot", "sum", "ravel", "diag", "eye"]), inner)
        .map(lambda parts: f"{parts[0]}({parts[1]})"),
        st.tuples(st.sampled_from(["outer", "dot", "maximum", "concat"]), inner, inner)
        .map(lambda parts: f"{parts[0]}({parts[1]}, {parts[2]})"),
        inner.map(lambda text: f"{text}.T"),
        st.tuples(inner, st.sampled_from(["0", "n", ":, None", "0:K", "K:", "-1"]))
        .map(lambda parts: f"{parts[0]}[{parts[1]}]"),
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=5000)
@given(st.lists(EXPRESSIONS, min_size=1, max_size=4))
def test_random_steps(expressions):
    lines = [f"  x{i} = {text}\n" for i, text in enumerate(expressions)]
    names = " + ".join(f"sum(x{i})" for i in range(len(lines)))
    check(
        "name: a\ninputs: {q: {shape: [K]}, k: {shape: [K]}, v: {shape: [V]}, g: {shape: []}}\n"
        "constants: {n: 2}\nstate: {S: {shape: [K, V]}}\noutputs: [o, S]\nstep: |\n"
        f"{''.join(lines)}  S = S + outer(k, v)\n  o = {names} + sum(q) + g\n"
    )
