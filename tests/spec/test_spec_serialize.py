"""JSON round trips, and data that no recurrence wrote."""

from __future__ import annotations

import copy
import json

import pytest

from lincodegen.errors import SpecError
from lincodegen.resources import specs_dir
from lincodegen.spec import load
from lincodegen.spec.serialize import from_json, to_json

SPECS = sorted(specs_dir().glob("*.yaml"))
KITCHEN = """\
name: kitchen
title: Every kind of node
doc: "two\\nlines, ünïcode"
inputs:
  q: {shape: [K], domain: "(-1, 2.5]", doc: a query}
  x: {shape: [2 * R, V], norm: "[0, inf)"}
  g: {shape: [], default: "-0.0 * h / H"}
parameters: {u: {shape: [3]}}
constants: {n: 2, scale: K**-0.5, half: K // 2 + K % 3}
state: {S: {shape: [1 + K + K * K]}, s: {shape: []}}
outputs: [o, s]
step: |
  f = concat(ones(1), q, ravel(outer(q, q)))
  S = where(S > 0, 2**f, f**2) + f**2.0
  for j in range(n):
      s = s + u[j] * g - half
  o = sum(x, axis=0) + mean(x) * scale * sum(S[0:K]) + softmax(x)[0]
  o = o + 0 * x[R:][0] + sum(diag(q)[:, None]) * K
"""


def exact(recurrence):
    """A text that differs where places, or 2 and 2.0, differ."""
    return repr(recurrence)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_round_trip_of_shipped_specs(path):
    recurrence = load(path)
    data = to_json(recurrence)
    text = json.dumps(data, allow_nan=False)
    back = from_json(json.loads(text))
    assert back == recurrence
    assert exact(back) == exact(recurrence)
    assert json.dumps(to_json(back)) == text
    assert len(text) < 16_000


def test_round_trip_of_every_kind_of_node():
    recurrence = load(KITCHEN)
    text = json.dumps(to_json(recurrence), allow_nan=False)
    assert exact(from_json(json.loads(text))) == exact(recurrence)


def test_a_node_used_twice_is_written_once():
    recurrence = load("name: a\ninputs: {q: {shape: [K]}}\nstep: |\n  x = q\n  x **= 2\n  o = x\n")
    first = len(to_json(recurrence)["nodes"])
    longer = load(
        "name: a\ninputs: {q: {shape: [K]}}\nstep: |\n  x = q\n"
        "  for j in range(200):\n    x = x + exp(q)\n  o = x\n"
    )
    # a pass adds its ref and its sum; exp(q) stands there once
    assert len(to_json(longer)["nodes"]) - first < 2 * 200 + 8


def _changes():
    """Paths into the data with values that do not belong there."""
    return [
        (("format",), 2),
        (("format",), True),
        (("name",), 3),
        (("dims",), "K"),
        (("dims", 0), 1),
        (("inputs",), {}),
        (("inputs", 0, "shape"), "K"),
        (("inputs", 0, "shape", 0), "K + 1"),
        (("inputs", 0, "shape", 0), 4),
        (("inputs", 0, "domain"), [0.0, 1.0, True]),
        (("inputs", 0, "domain", 0), "nan"),
        (("inputs", 0, "domain", 0), 1),
        (("inputs", 0, "domain", 2), 1),
        (("inputs", 0, "default"), 10**6),
        (("inputs", 0, "default"), -1),
        (("inputs", 0, "doc"), None),
        (("constants", 0), ["scale"]),
        (("states", 0, 0), None),
        (("step", 0, 2), 1),
        (("step", 0, 1), True),
        (("step", 0), []),
        (("outputs", 0, 1), "o"),
        (("nodes", 0), ["input", [0], ["q"], ["K"], 1, 1]),
        (("nodes", 0, 0), 0),
        (("nodes", 0, 2), [[1]]),
        (("nodes", 0, 2), [{"dim": "K", "more": 1}]),
        (("nodes", 0, 2), [{"dim": "K*1"}]),
        (("nodes", 0, 2), [True]),
        (("nodes", 0, 4), 1.0),
        (("source",), None),
    ]


@pytest.mark.parametrize(("path", "wrong"), _changes())
def test_wrong_data_is_refused(path, wrong):
    data = to_json(load(KITCHEN))
    changed = copy.deepcopy(data)
    target = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = wrong
    with pytest.raises(SpecError):
        from_json(changed)


@pytest.mark.parametrize("data", [None, [], "x", {}, {"format": 1}])
def test_no_data_at_all(data):
    with pytest.raises(SpecError, match="a recurrence is"):
        from_json(data)


def test_missing_and_additional_keys():
    data = to_json(load(KITCHEN))
    for key in data:
        with pytest.raises(SpecError, match="expected: the keys"):
            from_json({name: value for name, value in data.items() if name != key})
    with pytest.raises(SpecError, match="expected: the keys"):
        from_json({**data, "more": 1})
