"""The token loop in PyTorch against the oracle and its autograd."""

import pytest
import torch
from recurrent_cases import SIZES, SPECS, constants_of, expected, tensors_for
from token_cases import imported, lint_problems

from lincodegen.emit.token_recurrent_torch import recurrent_torch
from lincodegen.resources import specs_dir
from lincodegen.spec.loader import load
from lincodegen.verify.random_steps import random_recurrence

HEADS = {
    "equal": {},
    "one q head": {"q": 1, "x": 1, "noise": 1, "u": 1},
    "few write heads": dict.fromkeys(
        ("k", "v", "g", "beta", "S", "z", "A", "W", "i", "noise", "mask", "base", "last"), 1
    ),
}


def compare(module, recurrence, given, states):
    results, cotangents, grads = expected(recurrence, given, states)
    scale = constants_of(recurrence).values()
    got = module.forward(*given.values(), *states.values(), *scale)
    count = len(results)
    for value, want in zip(got[:count], results, strict=True):
        torch.testing.assert_close(value, want, rtol=1e-10, atol=1e-10)
    found = module.backward(*given.values(), *scale, *got[count:], *cotangents)
    for name, value, want in zip((*given, *states), found, grads, strict=True):
        torch.testing.assert_close(value, want, rtol=1e-10, atol=1e-10, msg=f"d{name}")


@pytest.mark.parametrize("name", SPECS)
def test_printed_module_is_as_a_formatter_leaves_it(name, tmp_path):
    assert lint_problems(recurrent_torch(load(SPECS[name])), tmp_path) == ""


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("name", SPECS)
def test_outputs_and_gradients(name, heads, tmp_path):
    recurrence = load(SPECS[name])
    module = imported(recurrent_torch(recurrence), tmp_path, "printed")
    counts = HEADS[heads]
    if heads == "few write heads" and name in {"recurrent gates", "scalar state", "functions"}:
        counts = {}
    given, states = tensors_for(recurrence, counts)
    compare(module, recurrence, given, states)


@pytest.mark.parametrize("length", [1, 2, 10])
def test_lengths(length, tmp_path):
    recurrence = load(SPECS["householder"])
    module = imported(recurrent_torch(recurrence), tmp_path, "printed")
    compare(module, recurrence, *tensors_for(recurrence, {}, length=length))


def test_no_tokens(tmp_path):
    recurrence = load(SPECS["riccati"])
    module = imported(recurrent_torch(recurrence), tmp_path, "printed")
    given, states = tensors_for(recurrence, {}, length=0)
    o, *final, a_saved, w_saved = module.forward(*given.values(), *states.values())
    assert o.shape == (2, 0, 2, SIZES["V"])
    for value, want in zip(final, states.values(), strict=True):
        torch.testing.assert_close(value, want)
    grads = module.backward(*given.values(), a_saved, w_saved, o, *final)
    assert [g.shape for g in grads] == [x.shape for x in (*given.values(), *states.values())]
    torch.testing.assert_close(grads[-1], states["W"])
    assert (grads[3] == 0).all()


@pytest.mark.parametrize("seed", range(24))
def test_random_recurrences(seed, tmp_path):
    recurrence = load(random_recurrence(seed))
    text = recurrent_torch(recurrence)
    assert lint_problems(text, tmp_path) == ""
    compare(imported(text, tmp_path, "printed"), recurrence, *tensors_for(recurrence, {}))


@pytest.mark.parametrize("path", sorted(specs_dir().glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs(path, tmp_path):
    recurrence = load(path)
    text = recurrent_torch(recurrence)
    assert lint_problems(text, tmp_path) == ""
    compare(imported(text, tmp_path, "printed"), recurrence, *tensors_for(recurrence, {}))
