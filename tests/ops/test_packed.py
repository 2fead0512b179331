"""Packed sequences of every shipped op: each as it is by itself, empty ones wherever they lie."""

import itertools

import pytest
import torch
from op_cases import FORMS, NAMES, device_of, op_of, recurrence_of, small_case

from lincodegen.runtime.pins import use_config
from lincodegen.runtime.schedules import use_schedule

PACKINGS = {
    "empty ones": (0, 0, 5, 5, 38, 53, 53),
    "one": (0, 37),
    "all empty": (0, 0, 0),
    "a chunk and its neighbours": (0, 16, 33, 48),
}


def arguments(name, form, offsets):
    """Tensors by name and initial states, leaves that take gradients."""
    case = small_case(name, length=offsets[-1])
    device = device_of(form)
    tensors = {n: x.to(device).requires_grad_() for n, x in case.tensors.items()}
    generator = torch.Generator().manual_seed(1)
    states = tuple(
        torch.randn(len(offsets) - 1, *x.shape[1:], generator=generator).to(device).requires_grad_()
        for x in (case.initial_state or {}).values()
    )
    return {n: x.detach().requires_grad_() for n, x in tensors.items()}, states


def run(op, tensors, states, **packing):
    given = states[0] if len(states) == 1 else states
    outputs, finals = op(*tensors, initial_state=given, output_final_state=True, **packing)
    pairs = [x if isinstance(x, tuple) else (x,) for x in (outputs, finals)]
    return [*pairs[0], *pairs[1]], len(pairs[0])


def separate(op, name, tensors, states, offsets):
    """Results of one run a sequence, put together."""
    inputs = {x.name for x in recurrence_of(name).inputs}
    parts = []
    for n, (first, last) in enumerate(itertools.pairwise(offsets)):
        own = [x[:, first:last] if key in inputs else x for key, x in tensors.items()]
        results, count = run(op, own, tuple(x[n : n + 1] for x in states))
        parts.append(results)
    return [
        torch.cat(entries, 1 if i < count else 0)
        for i, entries in enumerate(zip(*parts, strict=True))
    ]


def gradients(results, leaves):
    generator = torch.Generator().manual_seed(2)
    cotangents = [torch.randn(x.shape, generator=generator).to(x.device) for x in results]
    return torch.autograd.grad(results, leaves, cotangents, allow_unused=True)


@pytest.mark.parametrize(
    ("name", "case"),
    [(n, "empty ones") for n in NAMES]
    + [(n, c) for n in ("gated_delta_rule", "gla", "gsa") for c in PACKINGS if c != "empty ones"],
)
@pytest.mark.parametrize("form", FORMS)
def test_packed_sequences_are_separate_ones(name, form, case):
    """Bit for bit at one chunk size, but for sums over sequences: gradients of parameters."""
    offsets = PACKINGS[case]
    op, (tensors, states) = op_of(name, form), arguments(name, form, offsets)
    cu_seqlens = torch.tensor(offsets, device=device_of(form))
    parameters = {x.name for x in recurrence_of(name).parameters}
    with use_config(name, chunk_size=16):
        packed, _ = run(op, tensors.values(), states, cu_seqlens=cu_seqlens)
        alone = separate(op, name, tensors, states, offsets)
        assert all(torch.equal(a, b) for a, b in zip(packed, alone, strict=True))
        found = gradients(packed, (*tensors.values(), *states))
        wanted = gradients(alone, (*tensors.values(), *states))
    for key, a, b in zip((*tensors, *range(len(states))), found, wanted, strict=True):
        if key in parameters:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        elif a is not None or b is not None:
            assert torch.equal(a, b), key


@pytest.mark.smoke
@pytest.mark.parametrize("schedule", ["split", "recurrent"])
@pytest.mark.parametrize("name", ["gated_delta_rule", "gla", "mamba2", "gsa"])
def test_schedules_agree_on_packed_sequences(name, schedule):
    offsets = PACKINGS["empty ones"]
    op, (tensors, states) = op_of(name, "triton"), arguments(name, "triton", offsets)
    cu_seqlens = torch.tensor(offsets, device=device_of("triton"), dtype=torch.int32)
    expected, _ = run(op, tensors.values(), states, cu_seqlens=cu_seqlens)
    with use_schedule(schedule):
        found, _ = run(op, tensors.values(), states, cu_seqlens=cu_seqlens)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_host_copy_changes_nothing(form):
    offsets = PACKINGS["empty ones"]
    op, (tensors, states) = (
        op_of("gated_delta_rule", form),
        arguments("gated_delta_rule", form, offsets),
    )
    device = torch.tensor(offsets, device=device_of(form))
    one, _ = run(op, tensors.values(), states, cu_seqlens=device)
    both, _ = run(
        op, tensors.values(), states, cu_seqlens=device, cu_seqlens_cpu=device.cpu().int()
    )
    host, _ = run(op, tensors.values(), states, cu_seqlens_cpu=device.cpu())
    assert all(torch.equal(a, b) for a, b in zip(one, both, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one, host, strict=True))


@pytest.mark.parametrize(
    ("offsets", "found"),
    [
        ([1, 5], r"\[0\] is 1; expected: offsets that start at 0, never fall and end at T = 5"),
        ([0, 3, 2, 5], r"\[2\] is 2 after 3; expected: offsets"),
        ([0, 4], r"\[1\] is 4; expected: .* end at T = 5"),
    ],
)
def test_offsets_that_do_not_fit_are_named(offsets, found):
    op = op_of("retention", "torch")
    x = torch.zeros(1, 5, 2, 4)
    with pytest.raises(ValueError, match=f"retention: cu_seqlens{found}"):
        op(x, x, x, torch.zeros(2), cu_seqlens=torch.tensor(offsets))


def test_states_are_counted_by_sequences():
    op = op_of("retention", "torch")
    x = torch.zeros(1, 5, 2, 4)
    with pytest.raises(
        ValueError, match=r"the initial state S has the shape \[1, 2, 4, 4\]; exp.*\[2,"
    ):
        op(
            x,
            x,
            x,
            torch.zeros(2),
            initial_state=torch.zeros(1, 2, 4, 4),
            cu_seqlens=torch.tensor([0, 2, 5]),
        )
