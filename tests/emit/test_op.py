"""Ops of unseen specs, in both forms, against the float64 recurrence."""

import pytest
import torch
from built_ops import SPECS, op_of, package_of, recurrence_of

from lincodegen.runtime.backend import backend
from lincodegen.runtime.schedules import use_schedule
from lincodegen.verify.harness import verify

SIZES = (20, 12, 7)


def verdict(name, form, **options):
    recurrence, op = recurrence_of(name), op_of(name)

    def run(*args, **kwargs):
        with backend(form):
            return op(*args, **kwargs)

    sizes = dict(zip(recurrence.dims, SIZES, strict=False))
    return verify(recurrence, run, sizes=sizes, **options)


@pytest.mark.parametrize("name", SPECS)
def test_lengths_around_a_chunk(name):
    found = verdict(name, "torch", cases=("typical",), lengths=(0, 1, 63, 64, 65))
    assert found.passed, str(found)


@pytest.mark.parametrize("name", SPECS)
def test_float64_is_computed_in_float64(name):
    found = verdict(name, "torch", cases=("typical",), lengths=(37,), dtype=torch.float64)
    assert found.passed, str(found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["gates_from_parameters", "several_reads", "slots"])
def test_half_precision(name, dtype):
    found = verdict(name, "torch", cases=("typical",), lengths=(40,), dtype=dtype)
    assert found.passed, str(found)


@pytest.mark.parametrize("name", SPECS)
def test_repeated_heads_and_defaults(name):
    cases = ["repeated heads"]
    recurrence = recurrence_of(name)
    if any(x.default is not None for x in recurrence.parameters):
        cases.append("optional absent")
    found = verdict(name, "torch", cases=tuple(cases), lengths=(33,))
    assert found.passed, str(found)


@pytest.mark.parametrize("name", [n for n in SPECS if n not in ("chained", "not_affine")])
def test_kernels(name):
    found = verdict(name, "triton", cases=("typical", "repeated heads"), lengths=(35,))
    assert found.passed, str(found)


@pytest.mark.parametrize("name", ["gates_from_parameters", "chained", "tokens", "slots"])
def test_the_token_loop_of_a_chunked_op(name):
    with use_schedule("recurrent"):
        found = verdict(name, "torch", cases=("typical", "repeated heads"), lengths=(9,))
    assert found.passed, str(found)


def test_what_has_no_chunked_form_runs_token_by_token():
    package = package_of("not_affine")
    assert package.tier == 3
    assert "chunk.py" not in package.files
    assert "`tanh` makes the update non-linear in S" in package.files["derivation.md"]


@pytest.mark.parametrize("name", SPECS)
def test_one_token_after_another_is_the_sequence(name):
    recurrence, op = recurrence_of(name), op_of(name)
    sizes = dict(zip(recurrence.dims, SIZES, strict=False))
    tensors = drawn(recurrence, sizes)
    with backend("torch"):
        outputs, final = op(**tensors, output_final_state=True)
    states = [torch.zeros_like(x) for x in (final if isinstance(final, tuple) else (final,))]
    state = tuple(states) if isinstance(final, tuple) else states[0]
    inputs = {x.name for x in recurrence.inputs}
    tokens = []
    for t in range(5):
        token = {n: x[:, t] if n in inputs else x for n, x in tensors.items()}
        output, returned = op.step(**token, state=state)
        tokens.append(output if isinstance(output, tuple) else (output,))
        assert returned is state or all(a is b for a, b in zip(returned, state, strict=True))
    expected = outputs if isinstance(outputs, tuple) else (outputs,)
    for j, value in enumerate(expected):
        torch.testing.assert_close(torch.stack([x[j] for x in tokens], 1), value)
    for value, want in zip(states, final if isinstance(final, tuple) else (final,), strict=True):
        torch.testing.assert_close(value, want)


def drawn(recurrence, sizes, heads=2):
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for tensor in (*recurrence.inputs, *recurrence.parameters):
        lead = (2, 5, heads) if tensor in recurrence.inputs else (heads,)
        shape = (*lead, *(d.evaluate(sizes) for d in tensor.shape))
        x = torch.rand(shape, generator=generator, dtype=torch.float64) * 0.5
        tensors[tensor.name] = -x if tensor.domain.high == 0 else x
    return tensors
