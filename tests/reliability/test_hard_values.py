"""Values that break chunked forms: hard and vanishing decays, large keys, zeros, ends of a range.

One call has a row of the batch for each value, so that every op is put to all of them at once;
each row is held to the token loop's own error on that row.
"""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from one_head import one_head
from op_cases import (
    FORMS,
    NAMES,
    differing,
    evaluated,
    judged,
    op_of,
    recurrence_of,
    sizes_of,
)

from lincodegen.verify import compare
from lincodegen.verify.adversaries import keys, log_decays
from lincodegen.verify.gradients import evaluate_op
from lincodegen.verify.inputs import Arguments, Geometry, draw
from lincodegen.verify.trials import Trial

ROUNDOFF = 2.0**-24
LENGTH = 70
CHUNK = 64
INFINITE = -math.inf


def token_gates(recurrence):
    """Names of the log decays that each token has."""
    return [x.name for x in log_decays(recurrence) if x in recurrence.inputs]


GATED = [n for n in NAMES if token_gates(recurrence_of(n))]
# rows: what every token's log decay is; those outside of a gate's domain are left out
CONSTANT = (0.0, -0.5, -5.0, -30.0, -69.0, -88.0, -104.0, -1e4, INFINITE)
SWEEP = tuple(math.log(d) for d in (1e-1, 1e-5, 6.5e-12, 1e-20, 1e-30, 1e-38, 1e-45))
EDGES = (0, 15, 16, CHUNK - 1, CHUNK, LENGTH - 1)
both_forms = pytest.mark.parametrize("form", FORMS)


def patterns():
    """``[rows, T]`` log decays and a label for every row."""
    generator = torch.Generator().manual_seed(0)
    rows = {f"constant {g:g}": torch.full((LENGTH,), g) for g in (*CONSTANT, *SWEEP)}
    for t in EDGES:
        rows[f"-inf at {t}"] = torch.full((LENGTH,), -1e-3)
        rows[f"-inf at {t}"][t] = INFINITE
    pick = torch.rand(LENGTH, generator=generator) < 0.5
    rows["-1e4 or 0"] = torch.where(pick, -1e4, 0.0)
    return list(rows), torch.stack(list(rows.values())).double()


@cache
def decay_trial(name):
    recurrence = recurrence_of(name)
    labels, values = patterns()
    least = max(x.domain.low for x in log_decays(recurrence))
    fitting = [i for i in range(len(labels)) if values[i].min() >= least]
    labels, values = [labels[i] for i in fitting], values[fitting]
    geometry = Geometry(sizes_of(name), LENGTH, batch=len(labels), heads=2)
    case = draw(recurrence, geometry)
    gates = {}
    for x in log_decays(recurrence):
        if x in recurrence.inputs:
            drawn = case.tensors[x.name]
            whole = values.reshape(*values.shape, *(1,) * (drawn.ndim - 2)).expand(drawn.shape)
            gates[x.name] = whole.float()
    case = replace(case, name="decays", tensors={**case.tensors, **gates})
    return labels, Trial.of(recurrence, case, torch.float32)


def row_excess(trial, actual, row):
    """Per tensor the error of a row over the token loop's, roundings of its own size aside."""
    inputs = {f"grad {x.name}" for x in trial.recurrence.parameters}
    ratios = {}
    for name, a in actual.items():
        if name in inputs:
            continue
        r, n = trial.exact[name][row], trial.naive[name][row]
        size = max(compare.largest(r), trial.scales.get(name, 0.0))
        floor = 8 * ROUNDOFF * size + 1e-12
        naive = compare.largest(compare.difference(n, r))
        ratios[name] = compare.largest(compare.difference(a[row], r)) / max(naive, floor)
    return ratios


@pytest.mark.parametrize("name", GATED)
def test_every_decay_costs_what_it_costs_the_token_loop(name):
    labels, trial = decay_trial(name)
    actual = evaluated(name, "torch", trial.case)
    for row, label in enumerate(labels):
        ratios = row_excess(trial, actual, row)
        assert max(ratios.values()) <= 4, (label, ratios)


@pytest.mark.parametrize("name", GATED)
def test_the_gate_of_the_first_token_has_no_gradient_without_a_state(name):
    """What the first decay acts on is 0: so is its gradient, to the roundings of its terms."""
    recurrence = recurrence_of(name)
    trial = Trial.of(recurrence, replace(one_head(name, 5), initial_state=None), torch.float32)
    for form in FORMS:
        actual = evaluated(name, form, trial.case)
        for gate in token_gates(recurrence):
            exact = trial.exact[f"grad {gate}"][:, 0]
            if not exact.any():
                found = compare.largest(actual[f"grad {gate}"][:, 0])
                assert found <= 16 * ROUNDOFF * trial.scales[f"grad {gate}"], (form, gate, found)


PAIRS = [
    ("gated_delta_rule", "g", "delta_rule"),
    ("kda", "g", "delta_rule"),
    ("gla", "g", "linear_attention"),
    ("retention", "g", "linear_attention"),
    ("lightning_attention", "g", "linear_attention"),
]


@both_forms
@pytest.mark.parametrize(("name", "gate", "plain"), PAIRS)
def test_a_gate_of_one_is_no_gate(name, gate, plain, form):
    """A log decay of 0: results and gradients of the rule without one, to float32's roundings."""
    case = one_head(plain, 40)
    heads = 1
    shape = next(x for x in log_decays(recurrence_of(name)) if x.name == gate).shape
    lead = (1, 40, heads) if gate in token_gates(recurrence_of(name)) else (heads,)
    zero = torch.zeros(*lead, *(d.evaluate(case.geometry.sizes) for d in shape))
    order = [x.name for x in (*recurrence_of(name).inputs, *recurrence_of(name).parameters)]
    tensors = {**case.tensors, gate: zero}
    gated = replace(case, tensors={n: tensors[n] for n in order})
    found, wanted = evaluated(name, form, gated), evaluated(plain, form, case)
    for tensor, x in wanted.items():
        limit = 64 * ROUNDOFF * max(1.0, compare.largest(x))
        assert compare.largest(compare.difference(found[tensor], x)) <= limit, tensor


def normed(name):
    """Keys that a spec promises a norm of."""
    return [x.name for x in keys(recurrence_of(name)) if x.norm is not None]


@both_forms
@pytest.mark.parametrize("size", [1.6, None])
@pytest.mark.parametrize("name", [n for n in NAMES if normed(n)])
def test_keys_that_are_not_normalised(name, size, form):
    """Finite wherever the token loop is and products of its values are; None: norm sqrt(K)."""
    recurrence = recurrence_of(name)
    case = one_head(name, 12)
    tensors = dict(case.tensors)
    for n in normed(name):
        x = tensors[n]
        tensors[n] = x / x.norm(dim=-1, keepdim=True) * (size or x.shape[-1] ** 0.5)
    case = replace(case, tensors=tensors)
    naive = Trial.of(recurrence, case, torch.float32).naive
    if max(compare.largest(x) for x in naive.values()) < torch.finfo(torch.float32).max ** 0.5:
        assert all(x.isfinite().all() for x in evaluated(name, form, case).values())
    else:
        assert size is None, "the smaller norm is within reach"


@both_forms
@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_zeros(name, form):
    """All inputs and the state 0 where their domains allow it: finite, and the oracle's."""
    recurrence = recurrence_of(name)
    case = one_head(name)
    zeros = {
        x.name: torch.zeros_like(case.tensors[x.name])
        for x in recurrence.inputs
        if x.name in case.tensors
    }
    case = replace(case, name="all zero", tensors={**case.tensors, **zeros}, initial_state=None)
    trial = Trial.of(recurrence, case, torch.float32)
    verdict = judged(name, form, [trial])
    assert all(row.passed or row.ill_conditioned for row in verdict.rows), str(verdict)


SCALED = [n for n in NAMES if "scale" in {c.name for c in recurrence_of(n).constants}]


@both_forms
@pytest.mark.parametrize("name", SCALED)
def test_scales(name, form):
    """0, negative and small ones are taken as they are; None is the default."""
    recurrence = recurrence_of(name)
    geometry = Geometry(sizes_of(name), 9, batch=1, heads=1)
    trials = [
        Trial.of(
            recurrence,
            replace(
                draw(recurrence, geometry, arguments=Arguments(constants={"scale": scale})),
                name=f"scale {scale}",
            ),
            torch.float32,
        )
        for scale in ((0.0, 1.0, 1e-3, -1.0) if form == "torch" else (0.0, -1.0))
    ]
    verdict = judged(name, form, trials)
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("name", SCALED)
def test_no_scale_is_the_default(name):
    case = one_head(name)
    op, given = op_of(name, "torch"), replace(case, constants={"scale": None})
    found = evaluate_op(recurrence_of(name), given, op).named()
    assert differing(found, evaluated(name, "torch", case)) == []


FAINT = 2.0**-25
ROUNDED = "kernels round the carried state and its gradient to float16 where they multiply them"
rounded = pytest.mark.xfail(strict=True, reason=ROUNDED)
# what multiplies the gradient of a state on its way through a token
ERASING = {n for n in NAMES if "delta" in n} | {"kda", "kda_qk_l2norm", "dplr", "rwkv7"}


@pytest.mark.parametrize("form", ["torch", pytest.param("triton", marks=rounded)])
@pytest.mark.parametrize("name", NAMES)
def test_a_state_beyond_the_range_of_float16(name, form):
    """A float32 state of twice the largest float16, float16 inputs: finite where results fit."""
    recurrence = recurrence_of(name)
    case = one_head(name, 3, torch.float16)
    states = {n: torch.full_like(x, 2 * 65504.0) for n, x in case.initial_state.items()}
    case = replace(case, initial_state=states)
    exact = Trial.of(recurrence, case, torch.float16).exact
    for tensor, x in evaluated(name, form, case).items():
        fits = exact[tensor].abs() < torch.finfo(x.dtype).max
        assert x[fits].isfinite().all(), tensor


@pytest.mark.parametrize(
    ("name", "form"),
    [
        pytest.param(n, f, marks=rounded if f == "triton" and n in ERASING else ())
        for n in NAMES
        for f in FORMS
    ],
)
def test_a_state_gradient_below_the_range_of_float16(name, form):
    """2^-25 comes in for the final state: what leaves at the initial one is as exact as ever."""
    recurrence = recurrence_of(name)
    case = one_head(name, 3, torch.float16)
    faint = replace(
        case,
        state_cotangents={
            n: torch.full_like(x, 2.0**-25) for n, x in case.state_cotangents.items()
        },
        output_cotangents={n: torch.zeros_like(x) for n, x in case.output_cotangents.items()},
    )
    exact, found = Trial.of(recurrence, faint, torch.float16).exact, evaluated(name, form, faint)
    for state in case.initial_state:
        r, a = exact[f"grad initial {state}"], found[f"grad initial {state}"]
        assert compare.largest(compare.difference(a, r)) <= 2.0**-9 * compare.largest(r), state
