"""The token loop in Triton, interpreted, against the oracle and its autograd."""

import pytest
import torch
from recurrent_cases import SIZES, SPECS, expected, tensors_for
from token_cases import imported, lint_problems

from lincodegen.emit.token_recurrent_triton import recurrent_triton
from lincodegen.errors import ScheduleError
from lincodegen.spec.loader import load

TOLERANCE = {"rtol": 3e-4, "atol": 3e-5}


def compare(module, recurrence, given, states):
    results, cotangents, grads = expected(recurrence, given, states)
    scale = [SIZES["K"] ** -0.5 for _ in recurrence.constants]
    given, states = ({n: x.float() for n, x in d.items()} for d in (given, states))
    got = module.forward(*given.values(), *states.values(), *scale)
    count = len(results)
    for value, want in zip(got[:count], results, strict=True):
        torch.testing.assert_close(value, want.float(), **TOLERANCE)
    cotangents = [x.float() for x in cotangents]
    found = module.backward(*given.values(), *scale, *got[count:], *cotangents)
    for name, value, want in zip((*given, *states), found, grads, strict=True):
        torch.testing.assert_close(value, want.float(), **TOLERANCE, msg=f"d{name}")


@pytest.mark.parametrize("name", SPECS)
def test_printed_module_is_clean(name, tmp_path):
    assert lint_problems(recurrent_triton(load(SPECS[name])), tmp_path) == ""


@pytest.mark.parametrize("name", SPECS)
def test_outputs_and_gradients(name, tmp_path):
    recurrence = load(SPECS[name])
    module = imported(recurrent_triton(recurrence), tmp_path, "printed")
    compare(module, recurrence, *tensors_for(recurrence, {}))
