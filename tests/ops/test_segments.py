"""Segments of a sequence as affine maps: what they are, and that they compose to the whole."""

import functools
import itertools
import math
import random

import pytest
import torch
from op_cases import NAMES, device_of, recurrence_of, small_case

from lincodegen.loading import load_shipped
from lincodegen.runtime.backend import backend
from lincodegen.verify.adversaries import log_decays
from lincodegen.verify.compare import f2
from lincodegen.verify.reference import run

KINDS = {
    "delta_product": ["matrix"],
    "delta_rule": ["matrix"],
    "delta_rule_negative": ["matrix"],
    "dplr": ["matrix"],
    "gated_delta_product": ["matrix"],
    "gated_delta_rule": ["matrix"],
    "gated_delta_rule_qk_l2norm": ["matrix"],
    "gla": ["diagonal"],
    "gsa": ["diagonal of columns", "diagonal"],
    "hgrn2": ["diagonal"],
    "kda": ["matrix"],
    "kda_qk_l2norm": ["matrix"],
    "lightning_attention": ["scalar"],
    "linear_attention": ["identity"],
    "linear_attention_normalized": ["identity", "identity"],
    "mamba2": ["scalar"],
    "retention": ["scalar"],
    "rwkv6": ["diagonal"],
    "rwkv7": ["matrix"],
}
LENGTH = 37
READ_BEFORE_THE_DECAY = ("dplr",)
every_op = pytest.mark.parametrize("name", NAMES)


def cuts_of(name, length=LENGTH, count=4):
    """Segments at places that differ from op to op, an empty one among them."""
    source = random.Random(name)
    inner = sorted(source.randrange(length + 1) for _ in range(count))
    return list(itertools.pairwise([0, *inner, inner[-1], length]))


def arguments(name, case):
    """Tensors by name in the order of the op, its initial states, both as drawn."""
    return dict(case.tensors), tuple((case.initial_state or {}).values())


def segment_of(name, tensors, place):
    """The arguments of a segment's tokens."""
    inputs = {x.name for x in recurrence_of(name).inputs}
    return {n: x[:, slice(*place)] if n in inputs else x for n, x in tensors.items()}


def called(op, tensors, states, **packing):
    """Outputs and final states of an op as tuples."""
    given = states[0] if len(states) == 1 else states
    results = op(**tensors, initial_state=given, output_final_state=True, **packing)
    return [x if isinstance(x, tuple) else (x,) for x in results]


def applied(op, summary, states):
    after = op.apply(summary, states[0] if len(states) == 1 else states)
    return after if isinstance(after, tuple) else (after,)


def tree(op, summaries):
    """Neighbours combined pairwise."""
    while len(summaries) > 1:
        pairs = [summaries[i : i + 2] for i in range(0, len(summaries), 2)]
        summaries = [op.combine(*p) if len(p) == 2 else p[0] for p in pairs]
    return summaries[0]


def assert_near(found, wanted, tolerance=1e-12):
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        bound = tolerance * b.detach().abs().max().clamp(min=1.0)
        assert bool(((a - b).abs() <= bound).all())


def test_kinds_of_maps():
    found = {}
    for name in NAMES:
        op = load_shipped(name)
        maps = op.segments.maps
        found[name] = [m.kind + " of columns" * m.axis for m in maps]
        case = small_case(name)
        with backend("torch"):
            summary = op.segment_summary(**case.tensors)
        for m, state, transition in zip(maps, summary.states, summary.transitions, strict=True):
            rows = state.shape[2 + m.axis]
            axes = {"identity": [], "scalar": [], "diagonal": [rows], "matrix": [rows, rows]}
            assert list(transition.shape) == [*state.shape[:2], *axes[m.kind]]
            if m.kind == "identity":
                assert bool((transition == 1).all())
    assert found == KINDS


@every_op
@pytest.mark.parametrize("case", ["typical", "repeated heads", "optional absent"])
def test_combined_segments_are_the_whole(name, case):
    """Float64: in a row, in a tree, and each segment run from the state before it."""
    op = load_shipped(name)
    tensors, states = arguments(name, small_case(name, case, LENGTH, torch.float64))
    outputs, finals = called(op, tensors, states)
    places = cuts_of(f"{name} {case}")
    parts = [segment_of(name, tensors, place) for place in places]
    summaries = [op.segment_summary(**part) for part in parts]
    row = functools.reduce(op.combine, summaries)
    for combined in (row, tree(op, summaries)):
        assert_near(applied(op, combined, states), finals)
    assert_near(row.states, called(op, tensors, (None,) * len(states))[1])
    before, found = states, []
    for part, summary in zip(parts, summaries, strict=True):
        found.append(called(op, part, before)[0])
        before = applied(op, summary, before)
    joined = [torch.cat(x, 1) for x in zip(*found, strict=True)]
    assert_near(joined, outputs)


@every_op
def test_combined_segments_in_float32(name):
    """As near to the recurrence as the op itself must be."""
    op, recurrence = load_shipped(name), recurrence_of(name)
    case = small_case(name)
    tensors, states = arguments(name, case)
    parts = [segment_of(name, tensors, place) for place in cuts_of(name)]
    with backend("torch"):
        combined = functools.reduce(op.combine, [op.segment_summary(**part) for part in parts])
    found = applied(op, combined, states)
    results = {}
    for dtype in (torch.float32, torch.float64):
        _, finals = run(recurrence, tensors, initial_state=case.initial_state, dtype=dtype)
        results[dtype] = list(finals.values())
    rows = zip(found, results[torch.float64], results[torch.float32], strict=True)
    for a, reference, naive in rows:
        outcome = f2(a, reference, naive)
        assert outcome.passed, outcome


@every_op
def test_packed_segments(name):
    """Every sequence as it is by itself, empty ones too."""
    op = load_shipped(name)
    case = small_case(name, length=LENGTH, dtype=torch.float64)
    tensors, _ = arguments(name, case)
    offsets = torch.tensor([0, 0, 5, 5, 30, LENGTH])
    summary = op.segment_summary(**tensors, cu_seqlens=offsets)
    alone = [
        op.segment_summary(**segment_of(name, tensors, place))
        for place in itertools.pairwise(offsets.tolist())
    ]
    for field in range(2):
        wanted = [torch.cat(x) for x in zip(*(s[field] for s in alone), strict=True)]
        assert_near(summary[field], wanted)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["gated_delta_rule", "delta_product", "rwkv7", "mamba2", "gsa"])
def test_kernels_summarise_as_pytorch_does(name, packed):
    op = load_shipped(name)
    device = device_of("triton")
    tensors = {n: x.to(device) for n, x in small_case(name).tensors.items()}
    packing = {"cu_seqlens": torch.tensor([0, 0, 20, LENGTH], device=device)} if packed else {}
    with backend("torch"):
        wanted = op.segment_summary(**tensors, **packing)
    with backend("triton"):
        found = op.segment_summary(**tensors, **packing)
    for a, b in zip(found, wanted, strict=True):
        assert_near(a, b, 2e-5)


def forgetting(name):
    """Log decays that may be -inf."""
    gates = log_decays(recurrence_of(name))
    return [x.name for x in gates if x.domain.low == -math.inf and x.domain.includes_low]


@pytest.mark.parametrize("name", [n for n in NAMES if forgetting(n)])
def test_gates_that_forget_all(name):
    """After a log decay of -inf nothing of the state before is left; gradients are finite.

    But for what an erasure writes back that was read before the decay.
    """
    op = load_shipped(name)
    case = small_case(name, length=LENGTH, dtype=torch.float64)
    tensors = {n: x.clone() for n, x in case.tensors.items()}
    states = tuple((case.initial_state or {}).values())
    inputs = {x.name for x in recurrence_of(name).inputs}
    for gate in forgetting(name):
        # token 17 in every head, or head 0 in every token
        tensors[gate][(slice(None), 17) if gate in inputs else 0] = -math.inf
    tensors = {n: x.requires_grad_() for n, x in tensors.items()}
    _, finals = called(op, tensors, states)
    first, second = (
        op.segment_summary(**segment_of(name, tensors, place)) for place in ((0, 20), (20, LENGTH))
    )
    assert_near(applied(op, op.combine(first, second), states), finals)
    for m in first.transitions if name not in READ_BEFORE_THE_DECAY else ():
        assert bool((m[:, 0] == 0).all())
    total = sum(x.sum() for x in (*first.transitions, *first.states))
    found = torch.autograd.grad(total, list(tensors.values()), allow_unused=True)
    assert all(bool(dx.isfinite().all()) for dx in found if dx is not None)


@pytest.mark.parametrize("name", ["gated_delta_rule", "gla", "mamba2", "gsa", "rwkv7"])
def test_summaries_are_differentiable(name):
    """Gradients through segments are those of the whole."""
    op = load_shipped(name)
    tensors, states = arguments(name, small_case(name, length=LENGTH, dtype=torch.float64))
    leaves = {n: x.clone().requires_grad_() for n, x in tensors.items()}
    starts = tuple(x.clone().requires_grad_() for x in states)
    parts = [segment_of(name, leaves, place) for place in ((0, 11), (11, 30), (30, LENGTH))]
    combined = functools.reduce(op.combine, [op.segment_summary(**part) for part in parts])

    def gradients(finals):
        source = torch.Generator().manual_seed(3)
        weights = [torch.randn(x.shape, generator=source, dtype=x.dtype) for x in finals]
        wanted = [*leaves.values(), *starts]
        return torch.autograd.grad(
            finals, wanted, weights, allow_unused=True, materialize_grads=True
        )

    found = gradients(applied(op, combined, starts))
    assert_near(found, gradients(called(op, leaves, starts)[1]), 1e-11)


def test_arguments_that_a_summary_does_not_take():
    op = load_shipped("gla")
    tensors = dict(small_case("gla").tensors)
    with pytest.raises(TypeError, match="gla: a summary of a segment takes no initial_state"):
        op.segment_summary(**tensors, initial_state=None)


def test_states_that_are_none_stand_for_zeros():
    op = load_shipped("gsa")
    summary = op.segment_summary(**small_case("gsa").tensors)
    assert_near(op.apply(summary), summary.states)
    one = torch.ones_like(summary.states[1])
    first, second = op.apply(summary, (None, one))
    assert torch.equal(first, summary.states[0])
    assert not torch.equal(second, summary.states[1])
