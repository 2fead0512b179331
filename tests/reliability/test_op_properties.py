"""What holds for every op whatever the shapes, packings, splits and seeds; bitwise where it can.

The PyTorch form of all ops and, in the last tests, interpreted kernels of some.
"""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import NAMES, differing, evaluation, forward, op_of, recurrence_of

from lincodegen.loading import load_shipped
from lincodegen.runtime.call import Call
from lincodegen.runtime.schedules import use_schedule
from lincodegen.verify import compare
from lincodegen.verify.call import call
from lincodegen.verify.gradients import evaluate_op
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.trials import Trial

CHUNK = 8
every_op = pytest.mark.parametrize("name", NAMES)
few = settings(max_examples=3)
lengths = st.integers(1, 33)
counts = st.integers(1, 3)
seeds = st.integers(0, 2**16)
# rows of whole 16 bytes: products of a CPU's library depend on the alignment of their operands
SIZE = st.sampled_from([4, 8, 12, 16, 20])
ODD = st.sampled_from([1, 2, 3, 5, 7, 17])


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    """Several chunks in a short sequence."""
    with patch.object(Call, "chunk_size", property(lambda _: CHUNK)):
        yield


@st.composite
def shapes(draw_from, batch=counts, heads=counts, length=lengths, size=SIZE):
    """Sizes of a call: dimensions for up to three axes, length, batch, heads, seed."""
    sizes = tuple(draw_from(size) for _ in range(3))
    return sizes, draw_from(length), draw_from(batch), draw_from(heads), draw_from(seeds)


def case_of(name, shape, dtype=torch.float32, cu_seqlens=None):
    sizes, length, batch, heads, seed = shape
    recurrence = recurrence_of(name)
    dims = dict(zip(recurrence.dims, sizes, strict=False))
    geometry = Geometry(dims, length, batch=batch, heads=heads, cu_seqlens=cu_seqlens)
    return draw(recurrence, geometry, dtype=dtype, seed=seed)


def inputs_of(name):
    return {x.name for x in recurrence_of(name).inputs}


def changed(case, name, tokens, states):
    """Inputs and states as two functions make them."""
    own = inputs_of(name)
    return replace(
        case,
        tensors={n: tokens(x) if n in own else x for n, x in case.tensors.items()},
        initial_state={n: states(x) for n, x in case.initial_state.items()},
    )


def close(name, case, found, wanted):
    """Within four errors of the token loop and the roundings of the size, tensor by tensor."""
    trial = Trial.of(recurrence_of(name), case, torch.float32)
    for n, x in found.items():
        if not compare.ill_conditioned(trial.exact[n], trial.naive[n]):
            both = [compare.f2(y, trial.exact[n], trial.naive[n]) for y in (x, wanted[n])]
            assert all(o.passed for o in both), (n, both)


@every_op
@few
@given(shape=shapes(batch=st.integers(2, 3), heads=st.integers(2, 3)), data=st.data())
def test_orders_of_batch_and_heads(name, shape, data):
    case = case_of(name, shape)
    batch = torch.tensor(data.draw(st.permutations(range(shape[2]))))
    heads = torch.tensor(data.draw(st.permutations(range(shape[3]))))
    other = changed(case, name, lambda x: x[batch][:, :, heads], lambda x: x[batch][:, heads])
    own = inputs_of(name)
    other = replace(
        other, tensors={n: x if n in own else x[heads] for n, x in other.tensors.items()}
    )
    plain, found = forward(name, "torch", case), forward(name, "torch", other)
    for n, x in plain.items():
        x = x[batch]
        assert torch.equal(found[n], x[:, heads] if n.startswith("final") else x[:, :, heads]), n
    row = slice(int(batch[0]), int(batch[0]) + 1)
    alone = forward(name, "torch", changed(case, name, lambda x: x[row], lambda x: x[row]))
    assert differing(alone, {n: x[row] for n, x in plain.items()}) == []


def in_two(name, case, cut):
    """Outputs and final states of two pieces, the state carried."""
    state, parts = case.initial_state, []
    for span in (slice(0, cut), slice(cut, None)):
        piece = changed(case, name, lambda x, s=span: x[:, s], lambda x: x)
        part = forward(name, "torch", replace(piece, initial_state=state))
        state = {s.name: part[f"final {s.name}"] for s in recurrence_of(name).states}
        parts.append(part)
    outputs = [n for n, _ in recurrence_of(name).outputs]
    return {
        **{n: torch.cat([p[n] for p in parts], 1) for n in outputs},
        **{f"final {n}": x for n, x in state.items()},
    }


@every_op
@few
@given(shape=shapes(length=st.integers(CHUNK + 1, 33)), data=st.data())
def test_a_sequence_in_two(name, shape, data):
    """Cut at a multiple of the chunk bit for bit; anywhere within the tolerance of float32."""
    case, length = case_of(name, shape), shape[1]
    whole = forward(name, "torch", case)
    at_chunk = data.draw(st.integers(1, (length - 1) // CHUNK)) * CHUNK
    assert differing(in_two(name, case, at_chunk), whole) == []
    anywhere = data.draw(st.integers(0, length))
    close(name, case, in_two(name, case, anywhere), whole)


@every_op
@few
@given(parts=st.lists(st.integers(0, 2 * CHUNK + 1), min_size=1, max_size=4), data=st.data())
def test_packed_sequences_in_any_order(name, parts, data):
    """Alone or packed, in whatever order, empty ones among them: each its own bits."""
    offsets = tuple(accumulate(parts, initial=0))
    sizes, seed = tuple(data.draw(SIZE) for _ in range(3)), data.draw(seeds)
    case = case_of(name, (sizes, offsets[-1], 1, 2, seed), cu_seqlens=offsets)
    spans = [slice(a, b) for a, b in pairwise(offsets)]
    order = data.draw(st.permutations(range(len(parts))))
    moved = changed(
        case, name, lambda x: torch.cat([x[:, spans[i]] for i in order], 1), lambda x: x[order]
    )
    starts = tuple(accumulate((parts[i] for i in order), initial=0))
    outputs = [n for n, _ in recurrence_of(name).outputs]
    results = [
        evaluate_packed(name, c, torch.tensor(o)) for c, o in ((case, offsets), (moved, starts))
    ]
    for place, i in enumerate(order):
        there = slice(starts[place], starts[place + 1])
        alone = None
        if parts[i]:
            piece = changed(case, name, lambda x, s=spans[i]: x[:, s], lambda x, n=i: x[n : n + 1])
            alone = forward(name, "torch", piece)
        for n, x in results[0].items():
            if n in outputs:
                assert torch.equal(results[1][n][:, there], x[:, spans[i]]), n
                assert alone is None or torch.equal(alone[n], x[:, spans[i]]), n
            else:
                given_state = case.initial_state[n.removeprefix("final ")][i]
                assert torch.equal(results[1][n][place], x[i]), n
                assert torch.equal(x[i], given_state if alone is None else alone[n][0]), n


def evaluate_packed(name, case, offsets):
    with torch.no_grad():
        outputs, finals = call(
            recurrence_of(name),
            op_of(name, "torch"),
            dict(case.tensors),
            dict(case.initial_state),
            offsets,
        )
    return {**outputs, **{f"final {n}": x for n, x in finals.items()}}


def values_of(name):
    """Inputs and states that results are linear in together."""
    recurrence = recurrence_of(name)
    is_value = lambda x: bool(x.shape) and "V" in str(x.shape[-1])  # noqa: E731
    return (
        [x.name for x in recurrence.inputs if is_value(x)],
        [s.name for s in recurrence.states if is_value(s)],
    )


def with_values(case, name, inputs, states):
    tokens, carried = values_of(name)
    return replace(
        case,
        tensors={n: inputs(n) if n in tokens else x for n, x in case.tensors.items()},
        initial_state={n: states(n) if n in carried else x for n, x in case.initial_state.items()},
    )


@every_op
@few
@given(shape=shapes(), power=st.integers(-12, 12))
def test_values_scale_by_powers_of_two(name, shape, power):
    case, factor = case_of(name, shape), 2.0**power
    scaled = with_values(
        case, name, lambda n: case.tensors[n] * factor, lambda n: case.initial_state[n] * factor
    )
    plain, found = forward(name, "torch", case), forward(name, "torch", scaled)
    carried = {f"final {n}" for n in values_of(name)[1]}
    outputs = {n for n, _ in recurrence_of(name).outputs}
    for n, x in plain.items():
        assert torch.equal(found[n], x * factor if n in carried | outputs else x), n


@every_op
@few
@given(shape=shapes(size=ODD, length=st.integers(1, 20)), other=seeds)
def test_the_adjoint_is_the_transpose(name, shape, other):
    """Linear in values: <dy, J v> = <Jᵀ dy, v> and J (v + w) = J v + J w, in float64."""
    case, second = (case_of(name, (*shape[:4], s), torch.float64) for s in (shape[4], other))
    tokens, carried = values_of(name)
    both = with_values(
        case,
        name,
        lambda n: case.tensors[n] + second.tensors[n],
        lambda n: case.initial_state[n] + second.initial_state[n],
    )
    apart = with_values(case, name, lambda n: second.tensors[n], lambda n: second.initial_state[n])
    outputs = [n for n, _ in recurrence_of(name).outputs]
    linear = [*outputs, *(f"final {n}" for n in carried)]
    one, two, total = (forward(name, "torch", c) for c in (case, apart, both))
    for n in linear:
        assert compare.f1(one[n] + two[n], total[n]).passed, n
    states = {n: x * (n in carried) for n, x in case.state_cotangents.items()}
    found = evaluation(name, "torch", replace(case, state_cotangents=states))
    out = sum((found.outputs[n] * case.output_cotangents[n]).sum() for n in outputs)
    out += sum((found.finals[n] * states[n]).sum() for n in carried)
    back = sum((found.gradients[n] * case.tensors[n]).sum() for n in tokens)
    back += sum((found.initial[n] * case.initial_state[n]).sum() for n in carried)
    size = sum((x.abs() * case.output_cotangents[n].abs()).sum() for n, x in found.outputs.items())
    assert abs(out - back) <= 1e-9 * (1 + size)


@every_op
@few
@given(shape=shapes(length=st.integers(2, 20)), chunks=st.integers(1, 2))
def test_what_comes_before_a_start_does_not_matter(name, shape, chunks):
    """Tokens of zeros before the first, no state: whole chunks of them change no bit."""
    case = replace(case_of(name, shape), initial_state={})
    shifted = changed(
        case,
        name,
        lambda x: torch.cat([x.new_zeros(x.shape[0], CHUNK * chunks, *x.shape[2:]), x], 1),
        lambda x: x,
    )
    plain, found = forward(name, "torch", case), forward(name, "torch", shifted)
    for n, x in plain.items():
        own = found[n] if n.startswith("final") else found[n][:, CHUNK * chunks :]
        assert torch.equal(own, x), n


@every_op
@few
@given(shape=shapes(size=ODD, length=st.integers(2, 20)), data=st.data())
def test_no_gradient_goes_to_later_tokens(name, shape, data):
    case = case_of(name, shape)
    token = data.draw(st.integers(0, shape[1] - 2))
    leaves = {n: x.clone().requires_grad_() for n, x in case.tensors.items()}
    outputs, _ = call(recurrence_of(name), op_of(name, "torch"), leaves)
    total = sum(x[:, : token + 1].square().sum() for x in outputs.values())
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    for n, x in zip(leaves, found, strict=True):
        assert n not in inputs_of(name) or x is None or not x[:, token + 1 :].any(), n


@every_op
@few
@given(shape=shapes(size=ODD, length=st.integers(1, 9)))
def test_chunks_loop_and_steps_are_one_function(name, shape):
    """Chunked, token loop, and one token after another: each within float32's tolerance."""
    case = case_of(name, shape)
    chunked = forward(name, "torch", case)
    with use_schedule("recurrent"):
        close(name, case, forward(name, "torch", case), chunked)
    close(name, case, steps(name, case), chunked)


def steps(name, case):
    """Outputs and final states of ``step``, token by token."""
    recurrence, own = recurrence_of(name), inputs_of(name)
    state = [x.clone() for x in case.initial_state.values()]
    given_state = state[0] if len(state) == 1 else tuple(state)
    outputs = []
    for t in range(case.geometry.length):
        token = {n: x[:, t] if n in own else x for n, x in case.tensors.items()}
        output, given_state = load_shipped(name).step(**token, state=given_state)
        outputs.append(output if isinstance(output, tuple) else (output,))
    finals = given_state if isinstance(given_state, tuple) else (given_state,)
    named = {
        n: torch.stack(x, 1)
        for (n, _), x in zip(recurrence.outputs, zip(*outputs, strict=True), strict=True)
    }
    return {
        **named,
        **{f"final {s.name}": x for s, x in zip(recurrence.states, finals, strict=True)},
    }


@every_op
def test_wider_numbers_are_more_accurate(name):
    """The largest error of an output: float32's below float16's, that below bfloat16's."""
    shape = ((12, 8, 5), 33, 1, 2, 0)
    exact = Trial.of(recurrence_of(name), case_of(name, shape), torch.float32).exact
    errors = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        case = case_of(name, shape)
        tensors = {n: x.to(dtype) for n, x in case.tensors.items()}
        found = forward(name, "torch", replace(case, tensors=tensors))
        outputs = [n for n, _ in recurrence_of(name).outputs]
        assert all(x.isfinite().all() for x in found.values())
        errors[dtype] = max(
            compare.largest(compare.difference(found[n], exact[n])) for n in outputs
        )
    assert errors[torch.float32] < errors[torch.float16] < errors[torch.bfloat16]


PROCESS = """
import hashlib, torch
from lincodegen.loading import load_shipped, shipped_names
from lincodegen.resources import specs_dir
from lincodegen.spec import loader
from lincodegen.verify.gradients import evaluate_op
from lincodegen.verify.inputs import Geometry, draw
for name in shipped_names():
    recurrence = loader.load(specs_dir() / f"{name}.yaml")
    case = draw(recurrence, Geometry(dict.fromkeys(recurrence.dims, 7), 11))
    named = evaluate_op(recurrence, case, load_shipped(name)).named()
    digest = hashlib.sha256(b"".join(x.numpy().tobytes() for x in named.values()))
    print(name, digest.hexdigest())
"""


def test_fresh_processes_give_the_same_bits():
    """Outputs, final states and gradients of all ops in two processes of other hash seeds."""
    texts = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TRITON_INTERPRET": "0"}
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        done = subprocess.run(
            [sys.executable, "-c", PROCESS],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        texts.append(done.stdout)
    assert texts[0] == texts[1]
    assert len(texts[0].splitlines()) == len(NAMES)


@pytest.mark.parametrize("name", ["gated_delta_rule", "mamba2", "linear_attention_normalized"])
@settings(max_examples=3)
@given(seed=seeds, length=st.integers(1, 20))
def test_kernels_agree_with_the_pytorch_form(name, seed, length):
    case = case_of(name, ((5, 3, 4), length, 1, 1, seed))
    trial = Trial.of(recurrence_of(name), case, torch.float32)
    with patch.object(Call, "chunk_size", property(lambda _: 16)):
        rows, _ = trial.judge(op_of(name, "triton"))
        again = evaluate_op(recurrence_of(name), case, op_of(name, "triton")).named()
        assert (
            differing(again, evaluate_op(recurrence_of(name), case, op_of(name, "triton")).named())
            == []
        )
    assert all(row.passed for row in rows), rows
