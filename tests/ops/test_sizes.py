"""Sizes of one key or value up to 256, no powers of two, for an op of every shape of kernel."""

from itertools import product

import pytest
from op_cases import FORMS, judged, recurrence_of, small_trial

CLASSES = {
    "scalar decay": "mamba2",
    "delta": "gated_delta_rule",
    "channel decay": "gla",
    "channel decay, delta": "kda",
    "n rows": "gated_delta_product",
    "early read": "rwkv6",
    "early erasure": "rwkv7",
    "column read": "gsa",
    "vector state": "linear_attention_normalized",
}
ALL = (1, 24, 64, 100, 256)
# every size once as K and once as V
PAIRS = ((1, 24), (24, 100), (64, 1), (100, 64))
LARGE = ((256, 24), (24, 256))
LENGTH = 17


def check(name: str, form: str, keys: int, values: int, length: int = LENGTH) -> None:
    given = {"K": keys, "V": values, "M": 24}
    sizes = tuple(given[d] for d in recurrence_of(name).dims)
    verdict = judged(name, form, [small_trial(name, length=length, sizes=sizes)])
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize(("keys", "values"), PAIRS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", CLASSES)
def test_sizes(shape, form, keys, values):
    check(CLASSES[shape], form, keys, values)


@pytest.mark.parametrize(("keys", "values"), LARGE)
@pytest.mark.parametrize("shape", ["delta"])
def test_256(shape, keys, values):
    check(CLASSES[shape], "triton", keys, values)


@pytest.mark.parametrize("slots", [1, 5, 64])
@pytest.mark.parametrize("form", FORMS)
def test_slots(form, slots):
    trial = small_trial("gsa", length=LENGTH, sizes=(12, 20, slots))
    verdict = judged("gsa", form, [trial])
    assert verdict.passed, str(verdict)


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "values"), product(ALL, ALL))
@pytest.mark.parametrize("shape", CLASSES)
def test_all_sizes(shape, keys, values):
    check(CLASSES[shape], "triton", keys, values, length=33)
