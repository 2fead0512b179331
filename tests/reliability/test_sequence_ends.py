"""Sequences of every length around a chunk, packed ones, their neighbours, neutral tokens."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from one_head import one_head, packed
from op_cases import (
    FORMS,
    NAMES,
    evaluation,
    forward,
    judged,
    op_of,
    recurrence_of,
    sizes_of,
)

from lincodegen.loading import load_shipped
from lincodegen.runtime.call import Call
from lincodegen.runtime.pins import use_config
from lincodegen.testing import poisoned_empty
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.trials import Trial

CHUNK = 16
LENGTHS = (1, 2, 3, 4, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK + 3)
FEWER = {"torch": LENGTHS, "triton": (3, CHUNK + 1)}
both_forms = pytest.mark.parametrize("form", FORMS)
every_op = pytest.mark.parametrize("name", NAMES)


@both_forms
@every_op
def test_every_length_around_a_chunk(name, form):
    """Random initial states and cotangents of final ones; results and all gradients."""
    case = replace(packed(name, FEWER[form]), name="lengths around a chunk")
    trial = Trial.of(recurrence_of(name), case, torch.float32)
    with use_config(name, chunk_size=CHUNK):
        verdict = judged(name, form, [trial])
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("length", LENGTHS)
@every_op
def test_lengths_of_a_sequence_alone(name, length, monkeypatch):
    """As above, not packed: the PyTorch form in chunks of 16."""
    monkeypatch.setattr(Call, "chunk_size", property(lambda _: CHUNK))
    case = one_head(name, length)
    verdict = judged(name, "torch", [Trial.of(recurrence_of(name), case, torch.float32)])
    assert verdict.passed, str(verdict)


@both_forms
@every_op
def test_packed_sequences_without_a_token(name, form):
    """All empty: states and their gradients are handed through."""
    case = packed(name, (0, 0, 0))
    found = evaluation(name, form, case)
    for state, x in found.finals.items():
        assert torch.equal(x, case.initial_state[state])
        assert torch.equal(found.initial[state], case.state_cotangents[state])
    assert all(x.numel() == 0 for x in found.outputs.values())


@both_forms
@every_op
def test_neighbours_do_not_matter(name, form):
    """NaN in the sequence between two others, in all it has: not a bit of theirs changes."""
    # of interpreted kernels fewer
    parts, middle = ((5, 0, 3, 7), 2) if form == "torch" else ((2, 3), 0)
    case = packed(name, parts)
    offsets = case.geometry.cu_seqlens
    rows = slice(offsets[middle], offsets[middle + 1])
    inputs = {x.name for x in recurrence_of(name).inputs}
    spoiled = {n: x.clone() for n, x in case.tensors.items()}
    for n in inputs & spoiled.keys():
        spoiled[n][:, rows] = torch.nan
    states = {n: x.clone() for n, x in case.initial_state.items()}
    for x in states.values():
        x[middle] = torch.nan
    other = replace(case, tensors=spoiled, initial_state=states)
    with use_config(name, chunk_size=CHUNK), poisoned_empty():
        plain, found = evaluation(name, form, case), evaluation(name, form, other)
    kept = [n for n in range(len(parts)) if n != middle]
    tokens = torch.ones(offsets[-1], dtype=torch.bool)
    tokens[rows] = False
    for a, b, index, axis in (
        (plain.outputs, found.outputs, tokens, 1),
        (plain.finals, found.finals, kept, 0),
        (plain.initial, found.initial, kept, 0),
        (plain.gradients, found.gradients, tokens, 1),
    ):
        index = torch.as_tensor(index)
        index = index.nonzero().flatten() if index.dtype == torch.bool else index
        for n in a:
            if a is not plain.gradients or n in inputs:
                x, y = a[n].index_select(axis, index), b[n].index_select(axis, index)
                assert x.isfinite().all(), n
                assert torch.equal(x, y), n


@every_op
def test_offsets_of_either_width_and_never_changed(name):
    case = packed(name, (3, 0, 5))
    results = []
    for dtype in (torch.int32, torch.int64):
        offsets = torch.tensor(case.geometry.cu_seqlens, dtype=dtype)
        before = offsets.clone()
        leaves = [x.clone().requires_grad_() for x in case.tensors.values()]
        given = dict(zip(case.tensors, leaves, strict=True))
        output, _ = op_of(name, "torch")(**given, cu_seqlens=offsets)
        output = output if isinstance(output, tuple) else (output,)
        total = sum(x.square().sum() for x in output)
        results.append([*output, *torch.autograd.grad(total, leaves)])
        assert torch.equal(offsets, before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, -1, 5], "cu_seqlens.*expected: offsets that start at 0, never fall"),
        ([1, 5], "cu_seqlens.*expected: offsets that start at 0"),
        ([0, 4], "cu_seqlens.*end at T = 5"),
        ([0, 6], "cu_seqlens.*end at T = 5"),
        ([0.0, 5.0], "cu_seqlens has float32; expected: a tensor"),
        ([[0, 5]], r"cu_seqlens has the shape \[1, 2\]; expected: a tensor"),
    ],
)
@every_op
def test_offsets_that_do_not_fit_every_op(name, offsets, message):
    case = one_head(name, 5)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        load_shipped(name)(**case.tensors, cu_seqlens=torch.tensor(offsets))


@every_op
def test_one_batch_entry_with_offsets(name):
    case = draw(recurrence_of(name), Geometry(sizes_of(name), 5, batch=2, heads=1))
    with pytest.raises(ValueError, match=f"{name}: B = 2 with cu_seqlens"):
        load_shipped(name)(**case.tensors, cu_seqlens=torch.tensor([0, 5]))


@every_op
def test_a_final_state_without_a_gradient(name):
    """Not asked for, or asked for with a gradient of 0: the gradients are the same bits."""
    case = one_head(name)
    zero = {n: torch.zeros_like(x) for n, x in case.state_cotangents.items()}
    wanted = evaluation(name, "torch", replace(case, state_cotangents=zero))
    leaves = {n: x.clone().requires_grad_() for n, x in case.tensors.items()}
    states = [x.clone().requires_grad_() for x in case.initial_state.values()]
    given = states[0] if len(states) == 1 else tuple(states)
    output, final = op_of(name, "torch")(**leaves, initial_state=given)
    assert final is None
    output = output if isinstance(output, tuple) else (output,)
    cotangents = list(case.output_cotangents.values())
    found = torch.autograd.grad(output, [*leaves.values(), *states], cotangents)
    expected = [*wanted.gradients.values(), *wanted.initial.values()]
    for n, x, y in zip((*leaves, *case.initial_state), found, expected, strict=True):
        assert torch.equal(x, y), n


@every_op
def test_gradients_of_an_initial_state_of_zeros(name):
    case = one_head(name)
    zeros = {n: torch.zeros_like(x) for n, x in case.initial_state.items()}
    case = replace(case, name="state of zeros", initial_state=zeros)
    verdict = judged(name, "torch", [Trial.of(recurrence_of(name), case, torch.float32)])
    assert verdict.passed, str(verdict)


NO_DECAY_OF_THEIR_OWN = ("retention", "lightning_attention")


@both_forms
@every_op
def test_padding_on_the_right(name, form):
    """Tokens of zeros write nothing and decay nothing: not a bit changes, of state or outputs.

    A decay that is a head's, not a token's, goes on: outputs alone stay then.
    """
    case = one_head(name, 9)
    inputs = {x.name for x in recurrence_of(name).inputs}
    longer = {
        n: torch.cat([x, x.new_zeros(1, 10, *x.shape[2:])], 1) if n in inputs else x
        for n, x in case.tensors.items()
    }
    with use_config(name, chunk_size=CHUNK):
        plain, padded = (
            forward(name, form, case),
            forward(name, form, replace(case, tensors=longer)),
        )
    for n in plain:
        if n.startswith("final"):
            assert name in NO_DECAY_OF_THEIR_OWN or torch.equal(plain[n], padded[n]), n
        else:
            assert torch.equal(plain[n], padded[n][:, :9]), n


def test_packed_lengths_are_what_they_are_called():
    offsets = packed("retention", LENGTHS).geometry.cu_seqlens
    assert tuple(b - a for a, b in pairwise(offsets)) == LENGTHS
