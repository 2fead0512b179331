"""How far from the naive recurrence in float32, on what breaks chunked forms: goals G1 to G4.

Every figure is the largest error of a tensor over that of the token loop in float32, both
against float64. The table of the worst figures ends the run's output.
"""

import math
from dataclasses import replace

import pytest
import torch
from op_cases import NAMES, op_of, recurrence_of, small_trial

from lincodegen.verify import compare, run
from lincodegen.verify.adversaries import log_decays
from lincodegen.verify.gates import gates
from lincodegen.verify.gradients import evaluate_op
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.trials import Trial

FLOAT32 = 2.0**-24
GATED = tuple(n for n in NAMES if log_decays(recurrence_of(n)))
DELTA = tuple(n for n in NAMES if "delta" in n or n.startswith("kda"))
DECAYS = ("gate -inf", "gate -1e8", "gates -200", "gates -5", "gates -30", "gates -69")
LENGTH = 130


def evaluated(name, form, trial):
    return evaluate_op(trial.recurrence, trial.case, op_of(name, form)).named()


def excess(trial, actual):
    """Per tensor, error over the bound without its part of the naive error, in naive errors.

    Gradients of gates have the scale of rule F4; roundings of the size of a value, which the
    token loop happens to miss where it computes it in one step, are not counted.
    """
    ratios = {}
    for name, a in actual.items():
        assert a.isfinite().all() or not trial.exact[name].isfinite().all(), f"{name} is not finite"
        r, n = trial.exact[name], trial.naive[name]
        size = trial.scales.get(name, compare.largest(r))
        error = compare.largest(compare.difference(a, r))
        floor = 8 * FLOAT32 * size + 1e-12
        ratios[name] = error / max(compare.largest(compare.difference(n, r)), floor)
    return ratios


@pytest.mark.parametrize("name", GATED)
def test_decays(name, figures):
    """G1: hard gates cost no more than four times what they cost the token loop; no NaN."""
    for case in DECAYS:
        trial = small_trial(name, case, LENGTH)
        ratios = excess(trial, evaluated(name, "torch", trial))
        figures("G1", name, case, ratios)
        assert max(ratios.values()) <= 4, (case, ratios)


@pytest.mark.parametrize("name", ["mamba2", "gated_delta_rule", "gla", "kda", "rwkv7"])
def test_decays_in_kernels(name, figures):
    for case in ("gate -inf", "gates -200"):
        trial = small_trial(name, case)
        ratios = excess(trial, evaluated(name, "triton", trial))
        figures("G1 kernels", name, case, ratios)
        assert max(ratios.values()) <= 4, (case, ratios)


@pytest.mark.parametrize("name", NAMES)
def test_typical_inputs(name, figures):
    """G2: outputs and final states within 2, gradients within 4."""
    trial = small_trial(name, "typical", LENGTH)
    ratios = excess(trial, evaluated(name, "torch", trial))
    figures("G2", name, "typical", ratios)
    for tensor, ratio in ratios.items():
        assert ratio <= (4 if tensor.startswith("grad") else 2), (tensor, ratios)


@pytest.mark.parametrize("case", ["identical keys", "cosine 0.9"])
@pytest.mark.parametrize("name", DELTA)
def test_collinear_keys(name, case, figures):
    """G3: keys of one direction, beta at its upper end, no decay: within 16."""
    trial = small_trial(name, case, LENGTH)
    ratios = excess(trial, evaluated(name, "torch", trial))
    figures("G3", name, case, ratios)
    assert max(ratios.values()) <= 16, ratios


@pytest.mark.parametrize("case", ["identical keys", "cosine 0.9"])
@pytest.mark.parametrize("name", ["delta_rule_negative", "gated_delta_product", "kda"])
def test_collinear_keys_in_kernels(name, case, figures):
    trial = small_trial(name, case)
    ratios = excess(trial, evaluated(name, "triton", trial))
    figures("G3 kernels", name, case, ratios)
    assert max(ratios.values()) <= 16, ratios


def relative(a, r):
    """The norm of the error over that of the result."""
    return float(compare.difference(a, r).norm() / r.double().norm())


def drift(name, length, marks):
    """Per mark (errors of op and token loop in a window before it): state and outputs.

    No decay, keys of unit norm, beta uniform in [0, 2]: nothing is ever forgotten. Reflections
    keep errors as they are, so that the error may grow as the root of the length.
    """
    recurrence = recurrence_of(name)
    case = draw(recurrence, Geometry({"K": 16, "V": 16}, length, batch=1, heads=1))
    tensors = dict(case.tensors)
    tensors["k"] = torch.nn.functional.normalize(tensors["k"], dim=-1)
    tensors["beta"] = 2 * torch.rand(
        tensors["beta"].shape, generator=torch.Generator().manual_seed(0)
    )
    if "g" in tensors:
        tensors["g"] = torch.zeros_like(tensors["g"])
    op = op_of(name, "torch")
    with torch.no_grad():
        o, state = op(*tensors.values(), output_final_state=True)
        naive_o, naive_state = token_loop(tensors, torch.float32)
        exact_o, exact_state = token_loop(tensors, torch.float64)
    found = {}
    for mark in marks:
        window = slice(max(0, mark - 1000), mark)
        found[mark] = (
            relative(o[:, window], exact_o[:, window]),
            relative(naive_o[:, window], exact_o[:, window]),
        )
    final = relative(state, exact_state), relative(naive_state, exact_state)
    return found, final


def token_loop(tensors, dtype):
    """The rule of these ops written out, as fast as a loop over tokens is: B = H = 1."""
    q, k, v = (tensors[n].to(dtype)[0, :, 0] for n in "qkv")
    beta = tensors["beta"].to(dtype)[0, :, 0]
    state = torch.zeros(k.shape[-1], v.shape[-1], dtype=dtype)
    writes = beta[:, None] * k
    q = q * k.shape[-1] ** -0.5
    outputs = []
    for q_t, k_t, v_t, w_t in zip(q, k, v, writes, strict=True):
        state = torch.addr(state, w_t, v_t - k_t @ state)
        outputs.append(q_t @ state)
    return torch.stack(outputs)[None, :, None], state[None, None]


def test_the_fast_loop_is_the_recurrence():
    recurrence = recurrence_of("delta_rule_negative")
    case = draw(recurrence, Geometry({"K": 16, "V": 16}, 50, batch=1, heads=1))
    outputs, finals = run(recurrence, case.tensors)
    o, state = token_loop(case.tensors, torch.float64)
    torch.testing.assert_close(o, outputs["o"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, finals["S"], rtol=1e-12, atol=1e-12)


def no_drift(name, length, marks, figures):
    found, final = drift(name, length, marks)
    ratios = {f"o at {mark}": op / naive for mark, (op, naive) in found.items()}
    ratios["final S"] = final[0] / final[1]
    figures("G4", name, f"T = {length:.0e}", ratios)
    assert max(ratios.values()) <= 4, (found, final)
    # no growth beyond that of the token loop
    first, last = found[marks[0]], found[marks[-1]]
    assert last[0] / first[0] <= 2 * max(1.0, last[1] / first[1]), found


@pytest.mark.parametrize("name", ["delta_rule_negative", "gated_delta_rule"])
def test_long_sequence(name, figures):
    """G4: the error against the token loop's, at 1e3 tokens and at 1e5."""
    no_drift(name, 100_000, (1_000, 10_000, 100_000), figures)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["delta_rule_negative", "gated_delta_rule"])
def test_very_long_sequence(name, figures):
    no_drift(name, 1_000_000, (1_000, 10_000, 100_000, 1_000_000), figures)


@pytest.mark.parametrize("name", GATED)
def test_no_gate_is_no_nan(name):
    """A gate of exactly 0 decay in every token, forward and backward."""
    trial = small_trial(name, "typical", 70)
    tensors = {
        x.name: torch.full_like(trial.case.tensors[x.name], -math.inf)
        for x in log_decays(recurrence_of(name))
        if x.domain.includes_low and x.domain.low == -math.inf
    }
    if not tensors:
        pytest.skip(f"{name}: no decay of its domain is 0")
    case = replace(trial.case, name="all gates -inf", tensors={**trial.case.tensors, **tensors})
    made = Trial.of(recurrence_of(name), case, torch.float32)
    rows, _ = made.judge(op_of(name, "torch"))
    assert all(row.passed for row in rows), rows
    assert gates(recurrence_of(name)) >= set(tensors)
