"""Inputs with fewer heads: read where they are, their gradients summed in a fixed order."""

from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from op_cases import FORMS, NAMES, differing, evaluated, judged, op_of, recurrence_of, sizes_of
from triton.runtime import interpreter

from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.trials import Trial

LENGTH = 7
QUERIES = ("q", "r", "C")


def heads_of(name, most, many=2, few=1):
    """Heads by tensor: ``values`` have the most (few q and k), or ``queries`` (few k and v)."""
    recurrence = recurrence_of(name)
    heads = {}
    for x in (*recurrence.inputs, *recurrence.parameters):
        if most == "values":
            has_many = not x.shape or "V" in str(x.shape[-1]) or x in recurrence.parameters
        else:
            has_many = x.name in QUERIES
        heads[x.name] = many if has_many else few
    return heads


def grouped(name, most, many=2, few=1, length=LENGTH):
    geometry = Geometry(sizes_of(name), length, batch=1, heads=heads_of(name, most, many, few))
    return replace(draw(recurrence_of(name), geometry), name=f"{most}: {few} of {many} heads")


@contextmanager
def repeats(found):
    """Notes the shapes of tokens' vectors whose heads are repeated."""
    repeat = torch.Tensor.repeat_interleave

    def noted(x, *args, **kwargs):
        if x.dim() > 3 and x.shape[1] == LENGTH:
            found.append(tuple(x.shape))
        return repeat(x, *args, **kwargs)

    with patch.object(torch.Tensor, "repeat_interleave", noted):
        yield


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("most", ["values", "queries"])
@pytest.mark.parametrize("name", NAMES)
def test_no_input_is_repeated(name, most, form):
    """Neither forward nor backward makes a tensor of repeated heads of an input."""
    found = []
    with repeats(found):
        evaluated(name, form, grouped(name, most))
    assert found == []


@pytest.mark.parametrize("most", ["values", "queries"])
@pytest.mark.parametrize("name", NAMES)
def test_groups_of_two_and_four(name, most):
    """Results and gradients against the recurrence, which repeats heads; twice the same bits."""
    trials = []
    for few in (1, 2):
        case = grouped(name, most, 4, few, 19)
        trials.append(Trial.of(recurrence_of(name), case, torch.float32))
        again = [evaluated(name, "torch", case) for _ in range(2)]
        assert differing(*again) == []
    verdict = judged(name, "torch", trials)
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "gated_delta_product"])
def test_kernels_read_the_inputs_themselves(name):
    """The memory of an input with fewer heads is what a kernel is launched with."""
    case = grouped(name, "values")
    launched, run = set(), interpreter.GridExecutor.__call__

    def noted(executor, *args, **kwargs):
        launched.update(x.data_ptr() for x in args if isinstance(x, torch.Tensor))
        return run(executor, *args, **kwargs)

    with patch.object(interpreter.GridExecutor, "__call__", noted), torch.no_grad():
        op_of(name, "triton")(**case.tensors)
    few = [n for n, x in case.tensors.items() if x.dim() > 3 and x.shape[2] == 1]
    normalised = {"linear_attention_normalized": {"q"}, "gated_delta_rule_qk_l2norm": {"q", "k"}}
    computed = {**normalised, "kda_qk_l2norm": {"q", "k"}}.get(name, set())
    assert few
    for n in few:
        assert n in computed or case.tensors[n].data_ptr() in launched, n
