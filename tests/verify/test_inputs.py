"""Drawn inputs keep the promises of a spec and hit what they are meant to hit."""

import math

import pytest
import torch
from verify_specs import BONUS, DELTA, FACTOR, NORMALISED, PRODUCT, RETENTION

from lincodegen.spec.loader import load
from lincodegen.verify.adversaries import ADVERSARIES, applicable, keys, log_decays
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.layout import tensors_of

SIZES = {"K": 8, "V": 6, "D": 5}
PROMISES = load("""
name: promises
inputs:
  a: {shape: [K], domain: "(0, 1)"}
  b: {shape: [], domain: "[-1, 3)"}
  c: {shape: [], domain: "(-inf, -2]"}
  d: {shape: [K], domain: "[0, inf)", norm: "[0.5, 2]"}
  e: {shape: [K], norm: "[0, 1]"}
  f: {shape: [], domain: "[-5, 0)"}
state: {S: {shape: [K]}}
step: |
  S = exp(c + f) * S + a * b * (d + e)
  o = S
""")


def geometry(length=64, **more):
    return Geometry(SIZES, length, **more)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ADVERSARIES)
def test_promises_are_kept(case, dtype):
    drawn = draw(PROMISES, geometry(200), dtype=dtype, case=case)
    for tensor in tensors_of(PROMISES):
        x = drawn.tensors[tensor.name].double()
        domain = tensor.domain
        assert drawn.tensors[tensor.name].dtype == dtype
        assert ((x > domain.low) | ((x == domain.low) & domain.includes_low)).all()
        assert ((x < domain.high) | ((x == domain.high) & domain.includes_high)).all()
        if tensor.norm is not None:
            length = x.norm(dim=-1)
            assert (length <= tensor.norm.high).all()
            low = tensor.norm.low * (1 - 4 * torch.finfo(dtype).eps)
            assert (length >= low).all()


def test_the_same_arguments_draw_the_same():
    a, b = draw(DELTA, geometry(), seed=3), draw(DELTA, geometry(), seed=3)
    other = draw(DELTA, geometry(), seed=4)
    for name, x in a.tensors.items():
        assert torch.equal(x, b.tensors[name])
        assert not torch.equal(x, other.tensors[name])
    assert torch.equal(a.initial_state["S"], b.initial_state["S"])


def test_scales_and_ends():
    drawn = draw(DELTA, geometry(2000), dtype=torch.float64)
    assert drawn.tensors["q"].std() == pytest.approx(8**-0.5, rel=0.1)
    beta, g = drawn.tensors["beta"], drawn.tensors["g"]
    assert 0.015 < (beta == 0).double().mean() < 0.04
    assert 0.015 < (beta == 2).double().mean() < 0.04
    assert 0.03 < (g == 0).double().mean() < 0.08
    assert g.isfinite().all()
    assert drawn.initial_state["S"].abs().min() > 0


def test_shapes_of_everything():
    case = draw(NORMALISED, geometry(7, batch=3, heads={"q": 2, "k": 1, "v": 4, "i": 4, "f": 2}))
    assert case.tensors["q"].shape == (3, 7, 2, 8)
    assert case.initial_state["S"].shape == (3, 4, 8, 6)
    assert case.initial_state["z"].shape == (3, 4, 8)
    assert case.output_cotangents["o"].shape == (3, 7, 4, 6)
    assert case.output_cotangents["m"].shape == (3, 7, 4)
    packed = draw(DELTA, geometry(7, batch=1, cu_seqlens=(0, 3, 3, 7)))
    assert packed.state_cotangents["S"].shape == (3, 2, 8, 6)


def test_states_stay_in_the_compute_dtype():
    assert draw(DELTA, geometry(3), dtype=torch.bfloat16).initial_state["S"].dtype == torch.float32
    assert draw(DELTA, geometry(3), dtype=torch.float64).initial_state["S"].dtype == torch.float64


def test_keys_and_log_decays_are_found_by_their_promises():
    assert [x.name for x in keys(DELTA)] == ["k"]
    assert [x.name for x in keys(RETENTION)] == ["q", "k"]
    assert [x.name for x in log_decays(RETENTION)] == ["g"]
    assert log_decays(FACTOR) == ()
    assert "identical keys" not in applicable(FACTOR)
    assert "gate -inf" in applicable(BONUS)


@pytest.mark.parametrize(("case", "cosine"), [("identical keys", 1.0), ("cosine 0.9", 0.81)])
def test_keys_point_into_one_direction(case, cosine):
    """Two keys of cosine c with a common direction have a cosine of c squared on average."""
    drawn = draw(PRODUCT, geometry(), dtype=torch.float64, case=case)
    k = torch.nn.functional.normalize(drawn.tensors["k"][:, :, 0].flatten(0, -2), dim=-1)
    assert (k @ k.T).mean() == pytest.approx(cosine, abs=0.02)
    assert (drawn.tensors["beta"] == 2).all()
    assert (drawn.tensors["g"] == 0).all()


def test_hard_gates():
    one = draw(DELTA, geometry(), case="gate -inf").tensors["g"]
    assert (one[:, 21] == -math.inf).all()
    assert one[:, torch.arange(64) != 21].isfinite().all()
    assert (draw(DELTA, geometry(), case="gate -1e8").tensors["g"][:, 21] == -1e8).all()
    some = draw(DELTA, geometry(1000), case="gates -200").tensors["g"]
    assert 0.07 < (some == -200).double().mean() < 0.13
    assert (draw(DELTA, geometry(), case="gates -69").tensors["g"] == -69).all()


def test_domain_ends_only():
    drawn = draw(DELTA, geometry(), case="domain ends").tensors
    assert set(drawn["beta"].unique().tolist()) == {0.0, 2.0}
    assert set(drawn["g"].unique().tolist()) == {-math.inf, 0.0}


def test_zeros_have_rows_of_zeros_and_no_state():
    drawn = draw(DELTA, geometry(), case="zeros")
    assert drawn.initial_state is None
    assert (drawn.tensors["k"].norm(dim=-1) == 0).any()


def test_growing_recurrences_are_tamed():
    recurrence = load("""
name: growing
inputs: {k: {shape: [K]}, e: {shape: [K]}, v: {shape: [V]}}
state: {S: {shape: [K, V]}}
step: |
  S = S + 3.0 * outer(k, S.T @ e) + outer(k, v)
  o = S.T @ e
""")
    drawn = draw(recurrence, geometry(60), dtype=torch.float64, case="identical keys")
    k = drawn.tensors["k"]
    assert k.norm(dim=-1).mean() < 0.6


def test_states_under_a_root_are_positive():
    recurrence = load("""
name: variance
inputs: {x: {shape: [K]}}
state: {m: {shape: [K]}}
step: |
  m = 0.9 * m + 0.1 * x * x
  o = x / sqrt(m)
""")
    assert (draw(recurrence, geometry(5)).initial_state["m"] > 0).all()
