"""Each tolerance lets through what it should and nothing else."""

import math

import pytest
import torch

from lincodegen.verify import compare

ONES = torch.ones(1, 8, 1, 4, dtype=torch.float64)


def test_f1_is_relative_to_the_norm():
    assert compare.f1(ONES * (1 + 9e-10), ONES).passed
    assert not compare.f1(ONES * (1 + 2e-9), ONES).passed


def test_f2_allows_four_times_the_naive_error():
    naive = ONES + 1e-4
    assert compare.f2(ONES + 3.9e-4, ONES, naive).passed
    assert not compare.f2(ONES + 4.2e-4, ONES, naive).passed
    assert compare.f2(ONES + 3e-6, ONES, ONES).passed
    assert not compare.f2(ONES + 6e-6, ONES, ONES).passed
    assert compare.f2(ONES + 6e-6, ONES, ONES, unit=compare.TF32_ROUNDOFF).passed


def test_f3_knows_the_emulator():
    e = ONES + 0.01
    assert compare.f3(ONES + 0.02, ONES, e, dtype=torch.bfloat16).passed
    assert not compare.f3(ONES + 0.05, ONES, e, dtype=torch.bfloat16).passed
    assert compare.f3_emulated(e + 0.02, e, dtype=torch.bfloat16).passed
    assert not compare.f3_emulated(e + 0.05, e, dtype=torch.bfloat16).passed


def test_f4_scales_a_vanished_gate_gradient():
    q, dq = torch.full((1, 2, 1, 4), 0.5), torch.full((1, 2, 1, 4), 2.0)
    scale = compare.f4_scale([(q, dq)])
    assert scale == pytest.approx(4.0)
    dg, zero = torch.full((1, 2, 1), 1.2e-5), torch.zeros(1, 2, 1)
    assert not compare.f2(dg, zero, zero).passed
    assert compare.f2(dg, zero, zero, scale=scale).passed


def test_f5_finds_one_bad_token():
    length = 1000
    r = torch.ones(1, length, 1, 4, dtype=torch.float64)
    noise = 1e-3 * torch.randn(r.shape, generator=torch.Generator().manual_seed(0)).double()
    bad = r + noise
    bad[:, 500] = 0
    a, b = (r + noise).to(torch.bfloat16), bad.to(torch.bfloat16)
    unit = 2.0**-9
    assert compare.f5(a, r, r, unit=unit).passed
    assert not compare.f5(b, r, r, unit=unit).passed
    assert compare.f5(b, r, bad, unit=unit).passed
    assert not compare.f5(a, r, r).passed


def test_f6_is_every_bit_shape_and_dtype():
    assert compare.f6(ONES, ONES.clone()).passed
    other = ONES.clone()
    other[0, 0, 0, 0] += 1e-15
    assert compare.f6(other, ONES).error == 1
    assert not compare.f6(ONES.float(), ONES).passed
    assert not compare.f6(ONES[:, :2], ONES).passed


def test_nan_never_agrees_and_equal_infinities_do():
    nan, inf = ONES * math.nan, ONES * math.inf
    for a, r in ((nan, ONES), (nan, nan), (ONES, nan), (inf, -inf)):
        assert not compare.f1(a, r).passed
        assert not compare.f2(a, r, r).passed
        assert not compare.f3(a, r, r, dtype=torch.float16).passed
        assert not compare.f5(a, r, r).passed
        assert not compare.f6(a, r).passed
    assert compare.f2(inf, inf, inf).passed


def test_ill_conditioned_means_off_by_a_tenth():
    assert compare.ill_conditioned(ONES, ONES * 1.2)
    assert not compare.ill_conditioned(ONES, ONES * 1.05)
    assert not compare.ill_conditioned(0 * ONES, 0 * ONES + 1e-8)
