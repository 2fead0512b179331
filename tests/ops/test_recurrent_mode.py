"""The token loop of every shipped op, ``use_schedule("recurrent")``, with its own backward."""

import pytest
import torch
from op_cases import (
    FORMS,
    NAMES,
    differing,
    evaluated,
    judged,
    op_of,
    recurrence_of,
    small_case,
    small_trial,
)

import lincodegen
from lincodegen.loading import load_shipped

both_forms = pytest.mark.parametrize("form", FORMS)
every_op = pytest.mark.parametrize("name", NAMES)


@both_forms
@every_op
def test_results_and_gradients(name, form):
    """Against the recurrence in float64: one token, several, fewer heads, absent parameters."""
    trials = [small_trial(name, length=n) for n in (1, 9)]
    trials.append(small_trial(name, "repeated heads", 7))
    if any(x.default is not None for x in recurrence_of(name).parameters):
        trials.append(small_trial(name, "optional absent", 7))
    with lincodegen.use_schedule("recurrent"):
        verdict = judged(name, form, trials)
    assert verdict.passed, str(verdict)


@every_op
def test_the_algebra_in_float64(name):
    trial = small_trial(name, length=9, dtype=torch.float64)
    with lincodegen.use_schedule("recurrent"):
        verdict = judged(name, "torch", [trial])
    assert verdict.passed, str(verdict)


@both_forms
@pytest.mark.parametrize("name", ["gated_delta_rule", "dplr", "gsa", "mamba2"])
def test_inputs_in_bfloat16(name, form):
    trial = small_trial(name, length=9, dtype=torch.bfloat16)
    with lincodegen.use_schedule("recurrent"):
        verdict = judged(name, form, [trial])
    assert verdict.passed, str(verdict)


@both_forms
@pytest.mark.parametrize("name", ["gated_delta_rule", "gsa"])
def test_two_runs_have_the_same_bits(name, form):
    with lincodegen.use_schedule("recurrent"):
        runs = [evaluated(name, form, small_case(name, length=7)) for _ in range(2)]
    assert differing(*runs) == []


def test_a_compiled_call_follows_the_schedule_around_it():
    torch.compiler.reset()
    name = "gated_delta_rule"
    tensors = list(small_case(name, length=7).tensors.values())
    op = load_shipped(name)
    function = torch.compile(lambda *x: op(*x), fullgraph=True, backend="aot_eager")
    with lincodegen.backend("torch"), lincodegen.use_schedule("recurrent"):
        found, wanted = function(*tensors)[0], op(*tensors)[0]
    assert torch.equal(found, wanted)
    assert not torch.equal(found, op_of(name, "torch")(*tensors)[0])


def test_other_schedules_are_refused():
    named = "schedule 'loop': expected one of scan, split, segment, recurrent"
    with pytest.raises(ValueError, match=named):
        lincodegen.use_schedule("loop").__enter__()
