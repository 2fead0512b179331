"""The harness passes right ops and fails every planted fault."""

import json
import math

import pytest
import torch
from chunked_delta import FAULTS, chunked_delta
from verify_specs import BONUS, DELTA, FACTOR, NORMALISED, PRODUCT, RESET, RETENTION

from lincodegen.spec.loader import load
from lincodegen.verify.call import call, naive_op
from lincodegen.verify.gates import decay_factors, gates
from lincodegen.verify.harness import Plan, cases_for, verify, verify_trials
from lincodegen.verify.verdict import Row, Verdict

LENGTHS = (0, 1, 17, 101)
SIZES = {"K": 10, "V": 14}


@pytest.fixture(scope="module")
def trials():
    return list(Plan(sizes=SIZES, lengths=LENGTHS).trials(DELTA))


@pytest.fixture(scope="module")
def half_trials():
    return list(Plan(sizes=SIZES, lengths=(17, 101), dtype=torch.bfloat16).trials(DELTA))


def test_a_chunked_op_passes(trials):
    verdict = verify_trials(DELTA, chunked_delta(), trials)
    assert verdict.passed, str(verdict)
    assert verdict.ill_conditioned == 0
    assert len({row.case for row in verdict.rows}) == len(cases_for(DELTA)) + len(LENGTHS) - 1


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_fails(trials, fault):
    verdict = verify_trials(DELTA, chunked_delta(fault), trials)
    assert not verdict.passed
    assert verdict.failures


def test_bfloat16_passes(half_trials):
    verdict = verify_trials(DELTA, chunked_delta(), half_trials)
    assert verdict.passed, str(verdict)
    rounded = verify_trials(DELTA, chunked_delta("products in bfloat16"), half_trials)
    assert rounded.passed, str(rounded)


@pytest.mark.parametrize(
    "fault",
    [
        "decay not differentiated in the reads",
        "initial state ignored",
        "masked after the exponential",
        "decay of the first token of a chunk missing",
        "packed sequences leak",
        "wrong dtype of the state",
    ],
)
def test_faults_fail_in_bfloat16_too(half_trials, fault):
    assert not verify_trials(DELTA, chunked_delta(fault), half_trials).passed


def test_an_emulator_makes_bfloat16_tight():
    """What an emulator does not round must not be rounded."""
    plan = Plan(
        sizes=SIZES,
        lengths=(40,),
        dtype=torch.bfloat16,
        cases=("typical",),
        emulator=chunked_delta("products in bfloat16"),
    )
    trials = list(plan.trials(DELTA))
    assert verify_trials(DELTA, chunked_delta("products in bfloat16"), trials).passed
    rough = verify_trials(DELTA, chunked_delta("products in float8"), trials)
    assert any(row.rule == "F3e" for row in rough.failures)


def test_tf32_has_a_tolerance_of_its_own():
    def op(*args, **keywords):
        o, final = naive_op(DELTA)(*args, **keywords)
        return o * (1 + 2.0**-11), final

    options = {"sizes": SIZES, "lengths": (40,), "cases": ("typical",)}
    assert not verify(DELTA, op, **options).passed
    torch.set_float32_matmul_precision("high")
    try:
        assert verify(DELTA, op, **options).passed
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    "recurrence",
    [RETENTION, DELTA, PRODUCT, BONUS, NORMALISED, RESET, FACTOR],
    ids=lambda r: r.name,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_recurrence_itself_passes(recurrence, dtype):
    sizes = {"K": 5, "V": 6, "D": 4}
    verdict = verify(recurrence, naive_op(recurrence), sizes=sizes, lengths=(0, 1, 12), dtype=dtype)
    assert verdict.passed, str(verdict)
    assert verdict.judged > 50


def test_a_factor_of_zero_may_have_no_gradient():
    def op(w, x, initial_state=None, output_final_state=False, cu_seqlens=None):
        safe = torch.where(w == 0, w.detach(), w)
        return naive_op(FACTOR)(
            safe,
            x,
            initial_state=initial_state,
            output_final_state=output_final_state,
            cu_seqlens=cu_seqlens,
        )

    assert decay_factors(FACTOR) == {"w"}
    verdict = verify(FACTOR, op, lengths=(60,), sizes={"D": 4})
    assert verdict.passed, str(verdict)
    assert verdict.skipped > 0


def test_beta_is_no_decay_factor_and_gates_are_found():
    assert decay_factors(DELTA) == frozenset()
    assert gates(DELTA) == {"g"}
    assert gates(NORMALISED) == {"i", "f"}


def test_each_call_follows_the_convention():
    seen = []

    def op(*args, **keywords):
        seen.append((len(args), set(keywords)))
        return naive_op(RETENTION)(*args, **keywords)

    verify(RETENTION, op, cases=("typical", "optional absent", "packed"), lengths=(3,))
    state = {"initial_state", "output_final_state"}
    assert seen == [(3, {"g", *state}), (3, state), (3, {"g", "cu_seqlens", *state})]


def test_results_of_a_wrong_kind_are_named():
    tensors = {"w": torch.ones(1, 1, 1, 1), "x": torch.ones(1, 1, 1, 1)}
    with pytest.raises(TypeError, match="final_state"):
        call(FACTOR, lambda *args, **keywords: tensors["w"], tensors)
    with pytest.raises(TypeError, match="c"):
        call(FACTOR, lambda *args, **keywords: (tensors["w"], None), tensors)


def test_an_op_that_raises_fails_and_says_why():
    def op(*args, **keywords):
        raise RuntimeError("out of shared memory")

    verdict = verify(DELTA, op, lengths=(2,), cases=("typical",))
    assert not verdict.passed
    assert "out of shared memory" in str(verdict)


def test_no_verdict_without_a_comparison():
    assert not verify(DELTA, naive_op(DELTA), cases=()).passed


def test_ill_conditioned_cases_are_listed_not_judged():
    """Differences of numbers that float32 cannot tell apart."""
    recurrence = load("""
name: cancelling
inputs: {x: {shape: [D]}}
state: {c: {shape: [D]}}
step: |
  c = c + x
  o = (100000000.0 + c) - 100000000.0
""")
    verdict = verify(recurrence, naive_op(recurrence), lengths=(4,), cases=("typical",))
    assert verdict.ill_conditioned == 1
    assert verdict.passed
    assert "ill-conditioned" in str(verdict)

    def broken(x, **keywords):
        o, final = naive_op(recurrence)(x, **keywords)
        return o * math.nan, final

    assert not verify(recurrence, broken, lengths=(4,), cases=("typical",)).passed


def test_progress_names_each_case():
    messages = []
    verify(
        DELTA,
        naive_op(DELTA),
        cases=("typical", "zeros"),
        lengths=(1, 2),
        on_progress=messages.append,
    )
    assert messages == ["typical, T=1", "typical, T=2", "zeros, T=2"]


def test_a_verdict_is_text_and_json():
    rows = (
        Row("typical, T=1", "o", "F2", 1e-7, 1e-6, True),
        Row("typical, T=1", "grad q", "F2", math.inf, 1e-6, False, note="RuntimeError"),
    )
    verdict = Verdict("delta", "float32", rows)
    assert not verdict.passed
    assert verdict.failures == rows[1:]
    assert "FAILED" in str(verdict).splitlines()[0]
    assert json.loads(json.dumps(verdict.to_json(), allow_nan=False))["rows"][1]["error"] == "inf"


def leaking_batch(recurrence):
    def op(*args, **keywords):
        (o, final) = naive_op(recurrence)(*args, **keywords)
        return o + 1e-3 * o.mean(0, keepdim=True), final

    return op


def leaking_heads(recurrence):
    def op(*args, **keywords):
        (o, final) = naive_op(recurrence)(*args, **keywords)
        return o + 1e-3 * o.mean(2, keepdim=True), final

    return op


def contiguous_only(recurrence):
    """Reads its first argument's memory in order, whatever its strides are."""

    def op(first, *args, **keywords):
        flat = torch.as_strided(first, (first.numel(),), (1,), first.storage_offset())
        return naive_op(recurrence)(flat.reshape(first.shape), *args, **keywords)

    return op


@pytest.mark.parametrize(
    ("property_name", "broken"),
    [("by batch", leaking_batch), ("by head", leaking_heads), ("strided", contiguous_only)],
)
def test_properties_find_what_they_are_for(property_name, broken):
    options = {"sizes": SIZES, "lengths": (20,), "cases": (property_name,)}
    assert verify(DELTA, naive_op(DELTA), **options).passed
    assert not verify(DELTA, broken(DELTA), **options).passed
