"""Segments of ops of no catalogue: every kind of map, and what has none."""

import functools
import itertools

import pytest
import torch
from built_ops import SPECS, op_of, recurrence_of

from lincodegen import pipeline
from lincodegen.derive.segments import segment_maps
from lincodegen.derive.timeline import read_timeline
from lincodegen.emit.writer import write_package
from lincodegen.errors import NotChunkable
from lincodegen.loading import load_package
from lincodegen.program import proof
from lincodegen.spec.loader import load
from lincodegen.verify.call import call
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.random_steps import random_recurrence

LENGTH = 23
CUTS = (0, 9, 9, 14, LENGTH)
NARROW = {"K": 7, "V": 3, "M": 4}
WIDE = {"K": 4, "V": 6, "M": 5}
RECURRENT = ("not_affine", "sourceless")
RANDOM = (*range(4), 5, 7, 44)

OWN = {
    "vector_that_erases": """
name: vector_that_erases
inputs:
  q: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  u: {shape: []}
  g: {shape: [], domain: "[-inf, 0]"}
state: {z: {shape: [K]}}
step: |
  z = exp(g) * z
  z = z + k * (u - dot(z, k))
  o = dot(z, q)
""",
    "writes_of_no_input": """
name: writes_of_no_input
inputs:
  q: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  v: {shape: [V]}
  beta: {shape: [], domain: "[0, 1]"}
state: {S: {shape: [K, V]}}
step: |
  S = S + beta * outer(k, 1 + v - S.T @ k)
  o = S.T @ q
""",
    "strength_of_the_value": """
name: strength_of_the_value
inputs:
  q: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  v: {shape: [V]}
state: {S: {shape: [K, V]}}
step: |
  S = S + sigmoid(sum(v)) * outer(k, v - S.T @ k)
  o = S.T @ q
""",
    "square": """
name: square
inputs:
  q: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  v: {shape: [K]}
state: {S: {shape: [K, K]}}
step: |
  S = S + outer(k, v - S.T @ k)
  o = S.T @ q
""",
    "two_that_erase": """
name: two_that_erase
inputs:
  q: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  v: {shape: [V]}
  m: {shape: [M], norm: "[0, 1]"}
  gate: {shape: [V]}
state: {S: {shape: [K, V]}, R: {shape: [V, M]}}
outputs: [o, p]
step: |
  S = 0.75 * S
  S = S + outer(k, v - S.T @ k)
  R = R + outer(v - R @ m, m)
  o = silu(gate) * rmsnorm(S.T @ q)
  p = R @ m
""",
    "coupled": """
name: coupled
inputs: {q: {shape: [K]}, k: {shape: [K]}, v: {shape: [V]}}
state: {S: {shape: [K, V]}, R: {shape: [K, V]}}
step: |
  S = S + outer(k, v)
  R = R + outer(k, S.T @ q)
  o = R.T @ q
""",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An op by the text of its spec."""
    folder = tmp_path_factory.mktemp("segments")

    @functools.cache
    def build(text):
        recurrence = load(text)
        path = folder / f"{recurrence.name}.yaml"
        path.write_text(text)
        package = pipeline.compile_spec(path).package()
        write_package(package, folder / "ops")
        return recurrence, load_package(folder / "ops" / package.name)

    return build


def check(recurrence, op, sizes, heads=2):
    """The segments combined against the whole, in float64."""
    own = {n: s for n, s in sizes.items() if n in recurrence.dims}
    case = draw(recurrence, Geometry(own, LENGTH, batch=2, heads=heads), dtype=torch.float64)
    inputs = {x.name for x in recurrence.inputs}
    _, finals = call(recurrence, op, case.tensors, case.initial_state)
    summaries = [
        op.segment_summary(**{n: x[:, a:b] if n in inputs else x for n, x in case.tensors.items()})
        for a, b in itertools.pairwise(CUTS)
    ]
    combined = functools.reduce(op.combine, summaries)
    found = op.apply(combined, tuple(case.initial_state.values()))
    found = found if isinstance(found, tuple) else (found,)
    for a, b in zip(found, finals.values(), strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= 1e-12 * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("sizes", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("name", [n for n in SPECS if n not in RECURRENT])
def test_built_ops(name, sizes):
    check(recurrence_of(name), op_of(name), sizes)


@pytest.mark.parametrize("sizes", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("name", [n for n in OWN if n != "coupled"])
def test_maps_of_every_kind(name, sizes, built):
    recurrence, op = built(OWN[name])
    check(recurrence, op, sizes)
    check(recurrence, op, sizes, {x.name: 1 + i % 2 for i, x in enumerate(recurrence.inputs)})


def test_what_is_zeroed(built):
    found = {n: built(OWN[n])[1].segments.maps for n in OWN if n != "coupled"}
    zeroed = {n: [(m.zeroed, m.columns, m.written) for m in maps] for n, maps in found.items()}
    assert zeroed == {
        "vector_that_erases": [(("u",), "", False)],
        "writes_of_no_input": [((), "", True)],
        "strength_of_the_value": [((), "", True)],
        "square": [(("v",), "", False)],
        "two_that_erase": [(("v", "gate"), "V", False), (("v", "gate"), "V", False)],
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            OWN["coupled"],
            "coupled: no affine maps of segments are derived: line 7: the update of state R dep",
        ),
        *((SPECS[n], f"{n}: no affine maps of segments are derived: .") for n in RECURRENT),
    ],
    ids=["coupled", *RECURRENT],
)
def test_refusals(text, reason, built):
    recurrence, op = built(text)
    case = draw(recurrence, Geometry({"K": 4, "V": 3}, 5))
    with pytest.raises(NotImplementedError, match=reason):
        op.segment_summary(**case.tensors)


def test_random_steps(built, monkeypatch):
    """All that have a chunk form have maps: no state of theirs depends on another."""
    monkeypatch.setattr(proof, "POINTS", 1)
    kinds = set()
    for seed in RANDOM:
        recurrence, op = built(random_recurrence(seed))
        kinds |= {m.kind for m in op.segments.maps}
        check(recurrence, op, NARROW if seed % 2 else WIDE)
    assert kinds == {"identity", "scalar", "diagonal", "matrix"}


def test_random_steps_are_refused_as_their_chunk_forms():
    for seed in range(100):
        recurrence = load(random_recurrence(seed))
        try:
            timeline = read_timeline(recurrence)
        except NotChunkable:
            continue
        assert len(segment_maps(timeline)) == len(recurrence.states)
