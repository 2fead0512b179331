"""Functions of one token over tensors of different heads: what broadcasts, and what is joined."""

from itertools import product

import pytest
import torch
from op_cases import differing

import lincodegen
from lincodegen.runtime.heads import grouped, head_groups, repeat_heads, ungrouped
from lincodegen.spec import loader
from lincodegen.verify.gradients import evaluate_op
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.trials import Trial

JOINED = """
name: joined_keys
inputs:
  q: {shape: [2*J]}
  a: {shape: [J]}
  b: {shape: [J]}
  v: {shape: [V]}
  d: {shape: [V]}
parameters:
  w: {shape: [J]}
state: {S: {shape: [2*J, V]}}
step: |
  S = S + outer(concat(a * w, b), v)
  o = S.T @ q + sum(a * b) * d
"""


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ((1, 1), ()),
        ((1, 6), (6,)),
        ((4, 4), (4,)),
        ((8, 2, 4), (2, 2, 2)),
        ((1, 12, 4), (4, 3)),
        ((2, 3, 6), (6,)),
        ((2, 3), (6,)),
    ],
)
def test_axes_of_heads(counts, groups):
    assert head_groups(counts) == groups


@pytest.mark.parametrize("counts", [(1, 2, 8), (3, 6, 12), (2, 3, 6), (4, 4, 1)])
def test_grouped_heads_broadcast_like_repeated_ones(counts):
    groups, most = head_groups(counts), max(counts)
    xs = [torch.randn(2, 3, count, 5) for count in counts]
    for x, y in product(xs, xs):
        views = [grouped(z, groups, False) for z in (x, y)]
        found = ungrouped(views[0] * views[1], groups)
        wanted = repeat_heads(x, most) * repeat_heads(y, most)
        assert torch.equal(repeat_heads(found, most), wanted)
    whole = [ungrouped(grouped(x, groups, True), groups) for x in xs]
    assert all(torch.equal(x, repeat_heads(y, most)) for x, y in zip(whole, xs, strict=True))


def test_views_have_no_memory_of_their_own():
    x = torch.randn(2, 3, 2, 5)
    for whole in (False, True):
        assert grouped(x, (2, 2, 2), whole).data_ptr() == x.data_ptr()


def test_a_result_without_heads_stays_as_it_is():
    for x in (torch.ones(5), torch.ones(2, 5), 0.5):
        assert ungrouped(x, (2, 2)) is x


@pytest.mark.parametrize("heads", [(4, 1, 2, 4, 2, 1), (1, 2, 1, 4, 4, 2)], ids=str)
def test_what_joins_tensors_takes_any_heads(heads, tmp_path, monkeypatch):
    """Concatenated keys, a sum of products, a parameter: each with heads of its own."""
    monkeypatch.setenv("LINCODEGEN_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "joined_keys.yaml"
    path.write_text(JOINED, encoding="utf-8")
    recurrence, op = loader.load(path), lincodegen.load(path)
    counts = dict(zip("qabvdw", heads, strict=True))
    case = draw(recurrence, Geometry({"J": 4, "V": 6}, 9, batch=2, heads=counts))
    rows, _ = Trial.of(recurrence, case, torch.float32).judge(op)
    assert all(row.passed for row in rows), rows
    again = [evaluate_op(recurrence, case, op).named() for _ in range(2)]
    assert differing(*again) == []
