"""Recurrences as text."""

from __future__ import annotations

import pytest
from spec_reading import value

from lincodegen.spec import load
from lincodegen.spec.printing import format_node, format_step


def test_printed_recurrence():
    text = """\
name: rule
title: A rule
inputs:
  q: {shape: [K], norm: "[0, 1]"}
  g: {shape: [], domain: "[-inf, 0]", default: -h / H}
constants: {scale: K**-0.5}
state: {s: {shape: [K]}}
step: |
  s = exp(g) * s
  s = s - (q - s) * -2
  o = scale * s
"""
    assert (
        format_step(load(text))
        == """\
rule  A rule

input      q [K], norm in [0, 1]
input      g [] in [-inf, 0], default -h / H
constant   scale = K**-0.5
state      s [K]

s#0 = exp(g) * s            [K]        line 9
s#1 = s#0 - (q - s#0) * -2  [K]        line 10
o#2 = scale * s#1           [K]        line 11

returns    o = o#2
"""
    )


@pytest.mark.parametrize(
    "expression",
    [
        "(q + k) * g - (q - (k - q)) / 2",
        "-(q**2) + (-q)**2 - 2.0**-q",
        "(g * m.T) @ q + m.T @ (g * q)",
        "m.T @ (m @ v) / (g / (g * g))",
        "where(q + k < 0, -q, maximum(q, minimum(k, 1)))",
        "sum(m * q[:, None], axis=0) + mean(m, axis=0) + v",
        "concat(q, v)[0:K][None, :][0] + x[2] * x[0:2][1][0]",
        "(q + k)[:, None] * (ones(1, K) + zeros(K, 1)) + eye(K) @ diag(softmax(q))",
        "ravel(outer(silu(q), rmsnorm(k))) * dot(q, k)",
        "(1 + K)**-0.5 * q + K * (g + 2)**0.5",
    ],
)
def test_printed_expressions_read_back(expression):
    node = value(expression)
    assert value(format_node(node, ())) == node
