"""The token loop in Triton, interpreted, against the oracle and its autograd."""

import pytest
import torch
from recurrent_cases import SPECS, constants_of, expected, tensors_for
from token_cases import EXPRESSIONS, imported, lint_problems, spec_of
from token_cases import tensors_for as tensors_of_expression

from lincodegen.emit.token_recurrent_triton import recurrent_triton
from lincodegen.errors import ScheduleError
from lincodegen.resources import specs_dir
from lincodegen.spec.loader import load
from lincodegen.verify.random_steps import random_recurrence

TOLERANCE = {"rtol": 3e-4, "atol": 3e-5}


def compare(module, recurrence, given, states, cu_seqlens=None):
    results, cotangents, grads = expected(recurrence, given, states, cu_seqlens=cu_seqlens)
    scale = constants_of(recurrence).values()
    given, states = ({n: x.float() for n, x in d.items()} for d in (given, states))
    got = module.forward(*given.values(), *states.values(), *scale, cu_seqlens)
    count = len(results)
    for value, want in zip(got[:count], results, strict=True):
        torch.testing.assert_close(value, want.float(), **TOLERANCE)
    cotangents = [x.float() for x in cotangents]
    found = module.backward(*given.values(), *scale, *got[count:], *cotangents, cu_seqlens)
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


FEWER_HEADS = {
    "one q head": {"q": 1, "x": 1, "noise": 1, "u": 1},
    "few write heads": dict.fromkeys(
        ("k", "v", "g", "beta", "S", "z", "A", "W", "noise", "mask", "base", "last"), 1
    ),
}


@pytest.mark.parametrize("heads", FEWER_HEADS)
@pytest.mark.parametrize("name", ["householder", "riccati", "normaliser", "reset"])
def test_fewer_heads(name, heads, tmp_path):
    recurrence = load(SPECS[name])
    module = imported(recurrent_triton(recurrence), tmp_path, "printed")
    counts = {n: 2 * c for n, c in FEWER_HEADS[heads].items()}
    every = (*recurrence.inputs, *recurrence.parameters, *recurrence.states)
    counts = {x.name: counts.get(x.name, 4) for x in every}
    compare(module, recurrence, *tensors_for(recurrence, counts, batch=1, length=3))


def test_bfloat16_inputs(tmp_path):
    recurrence = load(SPECS["householder"])
    module = imported(recurrent_triton(recurrence), tmp_path, "printed")
    given, states = tensors_for(recurrence, {}, batch=1, length=5)
    rounded = {n: x.bfloat16() for n, x in given.items()}
    results, *_ = expected(recurrence, {n: x.double() for n, x in rounded.items()}, states)
    values = constants_of(recurrence).values()
    o, final, *_ = module.forward(*rounded.values(), states["S"].float(), *values)
    assert o.dtype == torch.bfloat16
    torch.testing.assert_close(o.double(), results[0], rtol=5e-3, atol=1e-3)
    torch.testing.assert_close(final, results[1].float(), rtol=1e-4, atol=1e-5)


def test_packed_sequences(tmp_path):
    recurrence = load(SPECS["householder"])
    module = imported(recurrent_triton(recurrence), tmp_path, "printed")
    cu_seqlens = torch.tensor([0, 1, 1, 8, 11])
    given, states = tensors_for(recurrence, {}, batch=1, length=11, sequences=4)
    compare(module, recurrence, given, states, cu_seqlens)


@pytest.mark.parametrize("length", [1, 2, 10])
def test_lengths(length, tmp_path):
    recurrence = load(SPECS["riccati"])
    module = imported(recurrent_triton(recurrence), tmp_path, "printed")
    compare(module, recurrence, *tensors_for(recurrence, {}, batch=1, length=length))


def test_no_tokens(tmp_path):
    recurrence = load(SPECS["riccati"])
    module = imported(recurrent_triton(recurrence), tmp_path, "printed")
    given, states = (
        {n: x.float() for n, x in d.items()} for d in tensors_for(recurrence, {}, length=0)
    )
    o, *final, a_saved, w_saved = module.forward(*given.values(), *states.values())
    for value, want in zip(final, states.values(), strict=True):
        torch.testing.assert_close(value, want)
    grads = module.backward(*given.values(), a_saved, w_saved, o, *final)
    assert [g.shape for g in grads] == [x.shape for x in (*given.values(), *states.values())]
    torch.testing.assert_close(grads[-1], states["W"])
    assert (grads[3] == 0).all()


@pytest.mark.parametrize("seed", range(24))
def test_random_recurrences(seed, tmp_path):
    recurrence = load(random_recurrence(seed))
    text = recurrent_triton(recurrence)
    assert lint_problems(text, tmp_path) == ""
    given, states = tensors_for(recurrence, {}, batch=1, length=4)
    compare(imported(text, tmp_path, "printed"), recurrence, given, states)


@pytest.mark.parametrize("path", sorted(specs_dir().glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_specs(path, tmp_path):
    recurrence = load(path)
    text = recurrent_triton(recurrence)
    assert lint_problems(text, tmp_path) == ""
    given, states = tensors_for(recurrence, {}, batch=1, length=4)
    compare(imported(text, tmp_path, "printed"), recurrence, given, states)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_one_expression(expression, tmp_path):
    recurrence = load(spec_of(f"o = {expression}"))
    module = imported(recurrent_triton(recurrence), tmp_path, "printed")
    given = tensors_of_expression(recurrence, 5, lead=(1, 2, 1))
    states = {"S": torch.ones(1, 1, dtype=torch.float64)}
    results, cotangents, grads = expected(recurrence, given, states)
    floats = constants_of(recurrence).values()
    tensors = [x.float() for x in given.values()]
    got = module.forward(*tensors, states["S"].float(), *floats)
    for value, want in zip(got[:2], results, strict=True):
        torch.testing.assert_close(value, want.float(), **TOLERANCE)
    cotangents = [x.float() for x in cotangents]
    found = module.backward(*tensors, *floats, *got[2:], *cotangents)
    for name, value, want in zip((*given, "S"), found, grads, strict=True):
        torch.testing.assert_close(value, want.float(), **TOLERANCE, msg=f"d{name} {expression}")


def test_value_of_three_axes_names_its_line():
    text = spec_of("o = sum(x3[0], axis=0)").replace(
        "o = sum(x3[0], axis=0)", "o = sum(x3, axis=0)[0]"
    )
    text = text.replace("state:", "inputs: {x3: {shape: [2, K, V]}}\nstate:")
    with pytest.raises(ScheduleError, match=r":5:\d+: a value of 3 axes in `o = "):
        recurrent_triton(load(text))
