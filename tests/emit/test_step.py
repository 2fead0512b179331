"""One token of any step, as a kernel and in place in PyTorch, against the oracle."""

import pytest
import torch
from recurrent_cases import SPECS, constants_of, tensors_for
from token_cases import imported, lint_problems

from lincodegen.emit.token_in_place import print_in_place
from lincodegen.emit.token_step_kernel import step_triton
from lincodegen.emit.token_torch import size_arguments, torch_imports
from lincodegen.program.token import whole_step
from lincodegen.spec.loader import load
from lincodegen.verify.reference import run

LENGTH = 3


def in_place(recurrence):
    text = print_in_place("step", whole_step(recurrence), len(recurrence.states), "One token.")
    return f"{torch_imports(text)}\n\n{text}"


def drawn(recurrence, heads):
    """Tensors and states in float64, the oracle's outputs and final states."""
    given, states = tensors_for(recurrence, heads, length=LENGTH)
    outputs, finals = run(
        recurrence, given, constants=constants_of(recurrence), initial_state=states
    )
    return given, states, list(outputs.values()), list(finals.values())


def tokens(recurrence, given):
    inputs = {x.name for x in recurrence.inputs}
    for t in range(LENGTH):
        yield [x[:, t] if n in inputs else x for n, x in given.items()]


def assert_close(found, expected):
    for x, want in zip(found, expected, strict=True):
        torch.testing.assert_close(x.double(), want, rtol=3e-4, atol=3e-5)


@pytest.mark.parametrize("name", SPECS)
def test_the_kernel(name, tmp_path):
    recurrence = load(SPECS[name])
    text = step_triton(recurrence)
    module = imported(text, tmp_path, "kernel")
    assert lint_problems(text, tmp_path) == ""
    given, states, outputs, finals = drawn(recurrence, {})
    states = [x.float() for x in states.values()]
    given = {n: x.float() for n, x in given.items()}
    constants = constants_of(recurrence).values()
    for t, token in enumerate(tokens(recurrence, given)):
        assert_close(module.step(*token, *states, *constants), [o[:, t] for o in outputs])
    assert_close(states, finals)


@pytest.mark.parametrize("name", ["householder", "riccati", "normaliser"])
def test_the_kernel_where_heads_share_a_state(name, tmp_path):
    recurrence = load(SPECS[name])
    module = imported(step_triton(recurrence), tmp_path, "kernel")
    written = ("k", "v", "g", "beta", "S", "z", "A", "W", "noise", "mask", "u")
    heads = {"q": 4} | dict.fromkeys(written, 2)
    given, states, outputs, finals = drawn(recurrence, heads)
    states = [x.float() for x in states.values()]
    given = {n: x.float() for n, x in given.items()}
    constants = constants_of(recurrence).values()
    for t, token in enumerate(tokens(recurrence, given)):
        assert_close(module.step(*token, *states, *constants), [o[:, t] for o in outputs])
    assert_close(states, finals)


@pytest.mark.parametrize("name", SPECS)
def test_in_place(name, tmp_path):
    recurrence = load(SPECS[name])
    text = in_place(recurrence)
    module = imported(text, tmp_path, "tokens")
    given, states, outputs, finals = drawn(recurrence, {})
    states = list(states.values())
    constants = constants_of(recurrence).values()
    sizes = {"K": 5, "V": 3, "D": 4}
    rest = [sizes[n] for n in size_arguments(whole_step(recurrence))]
    seen = []
    for token in tokens(recurrence, given):
        results = module.step(*token, *states, *constants, *rest)
        seen.append(results[: len(outputs)])
        for state, new in zip(states, results[len(outputs) :], strict=True):
            state.copy_(new)
    # read at the end: no output lies in the memory of a state that was written since
    for t, found in enumerate(seen):
        assert_close(found, [o[:, t].expand_as(x) for o, x in zip(outputs, found, strict=True)])
    assert_close(states, finals)


def test_what_reads_the_old_state_is_computed_before_it_is_written():
    text = in_place(
        load("""
name: probe
inputs: {a: {shape: [K]}, b: {shape: [K]}, w: {shape: [K]}}
state: {S: {shape: [K, K]}, R: {shape: [K, K]}, Z: {shape: [K]}}
outputs: [o, first]
step: |
  S = exp(w)[:, None] * S - outer(b, S.T @ a)
  R = R + R.T
  first = Z
  Z = 0.5 * Z + a
  o = S.T @ w + sum(R) * ones(K)
""")
    )
    assert "S_1 = S.mul_(torch.exp(w)[..., None]).addcmul_(b[..., None], S_a" in text
    assert text.index("S_a = ") < text.index("S.mul_")
    assert "R_1 = R + R.mT" in text
    assert "Z_1 = 0.5 * Z + a" in text
    assert "return o, Z.clone(), " in text
