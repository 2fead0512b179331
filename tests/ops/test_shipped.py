"""Every shipped op in both forms, forward and all gradients, against the float64 recurrence."""

import importlib

import pytest
import torch
from op_cases import (
    FORMS,
    NAMES,
    device_of,
    evaluated,
    judged,
    op_of,
    recurrence_of,
    small_case,
    small_trial,
)

from lincodegen.loading import load_shipped
from lincodegen.runtime.launch import common_dtype
from lincodegen.verify import verify
from lincodegen.verify.adversaries import applicable
from lincodegen.verify.emulation import emulator
from lincodegen.verify.harness import cases_for

HALF = (torch.float16, torch.bfloat16)
LENGTHS = {"torch": (1, 2, 37, 64, 70, 130), "triton": (1, 37, 70)}
HALF_CASES = {
    "torch": ("identical keys", "cosine 0.9", "domain ends", "gate -inf", "gates -30", "zeros"),
    "triton": ("identical keys", "domain ends", "gate -inf"),
}


@pytest.mark.smoke
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_float32_lengths(name, form):
    verdict = judged(name, form, [small_trial(name, length=n) for n in LENGTHS[form]])
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_float32_adversaries(name, form):
    cases = [c for c in applicable(recurrence_of(name)) if c != "typical"]
    verdict = judged(name, form, [small_trial(name, case) for case in cases])
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_fewer_heads_and_defaults(name, form):
    cases = ["repeated heads"]
    if any(x.default is not None for x in recurrence_of(name).parameters):
        cases.append("optional absent")
    verdict = judged(name, form, [small_trial(name, case, 19) for case in cases])
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name, form, dtype):
    """The kernels are held to their emulator, too: a rounding more would show."""
    emulated = form == "triton"
    cases = [c for c in HALF_CASES[form] if c in applicable(recurrence_of(name))]
    trials = [small_trial(name, length=70, dtype=dtype, emulated=emulated)]
    trials += [small_trial(name, c, dtype=dtype, emulated=emulated) for c in cases]
    verdict = judged(name, form, trials)
    assert verdict.passed, str(verdict)


def test_every_shipped_op_has_both_forms():
    assert len(NAMES) == 19
    assert all(callable(op_of(name, "triton")) for name in NAMES)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("dtype", (torch.float32, *HALF), ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_case(name, form, dtype):
    recurrence = recurrence_of(name)
    cases = cases_for(recurrence, dtype)
    plan = {"dtype": dtype, "cases": cases}
    if dtype in HALF and form == "triton":
        plan["emulator"] = emulator(load_shipped(name), dtype)
    verdict = verify(recurrence, op_of(name, form), device=device_of(form), **plan)
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("name", NAMES)
def test_kernels_of_half_precision_multiply_it(name, monkeypatch):
    """No dot in float32 because an operand was computed, and so wider, before the kernels."""
    kernels = importlib.import_module(f"{load_shipped(name).__module__}.kernels")
    found = []
    monkeypatch.setattr(
        kernels, "common_dtype", lambda *x: found.append(common_dtype(*x)) or found[-1]
    )
    evaluated(name, "triton", small_case(name, dtype=torch.bfloat16))
    assert found
    assert set(found) == {torch.bfloat16}
