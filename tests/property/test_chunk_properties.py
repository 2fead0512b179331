"""What holds for every chunk form: chunk sizes, cuts, permutations, neutral elements."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lincodegen.verify.call import call
from lincodegen.verify.inputs import Geometry, draw
from tests.property.chunk_op import op_of
from tests.property.unseen_specs import SPECS, spec

SIZES = {"K": 5, "V": 3}
NAMES = sorted(SPECS)
QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
OPS = {}


def op(name):
    if name not in OPS:
        OPS[name] = op_of(SPECS[name])
    return OPS[name]


def run(name, tensors, state, chunk_size):
    recurrence, form = op(name)
    return call(recurrence, form.with_chunks(chunk_size), tensors, state)


def drawn(name, length, seed, batch=2):
    recurrence, _ = op(name)
    case = draw(recurrence, Geometry(SIZES, length, batch), dtype=torch.float64, seed=seed)
    return case.tensors, case.initial_state


def inputs_of(name):
    return {x.name for x in op(name)[0].inputs}


def close(left, right):
    for xs, ys in zip(left, right, strict=True):
        for key, x in xs.items():
            torch.testing.assert_close(ys[key], x, rtol=1e-9, atol=1e-10)


def equal(left, right):
    for xs, ys in zip(left, right, strict=True):
        for key, x in xs.items():
            assert torch.equal(ys[key], x), key


names = st.sampled_from(NAMES)
lengths = st.integers(1, 40)
seeds = st.integers(0, 1000)
chunks = st.sampled_from((1, 2, 3, 5, 8, 16, 20, 32, 64))


@QUICK
@given(names, lengths, seeds, chunks, chunks)
def test_the_chunk_size_changes_nothing(name, length, seed, first, second):
    tensors, state = drawn(name, length, seed)
    close(run(name, tensors, state, first), run(name, tensors, state, second))


def cut(name, tensors, at):
    """The tensors of two pieces."""
    inputs = inputs_of(name)
    left = {n: x[:, :at] if n in inputs else x for n, x in tensors.items()}
    return left, {n: x[:, at:] if n in inputs else x for n, x in tensors.items()}


def in_two_runs(name, tensors, state, at):
    """Outputs and final states of two runs with the states carried over."""
    left, right = cut(name, tensors, at)
    first, middle = run(name, left, state, 8)
    second, final = run(name, right, middle, 8)
    return {n: torch.cat([x, second[n]], 1) for n, x in first.items()}, final


@QUICK
@given(names, st.integers(1, 3), st.integers(1, 20), seeds)
def test_a_cut_at_a_chunk_changes_no_bit(name, chunks_before, rest, seed):
    """With 16 sequences and heads: PyTorch's exp2 rounds the odd end of a tensor otherwise."""
    tensors, state = drawn(name, 8 * chunks_before + rest, seed, batch=8)
    found = in_two_runs(name, tensors, state, 8 * chunks_before)
    equal(found, run(name, tensors, state, 8))


@QUICK
@given(names, st.integers(2, 30), st.data(), seeds)
def test_a_cut_anywhere_changes_nothing(name, length, data, seed):
    at = data.draw(st.integers(1, length - 1))
    tensors, state = drawn(name, length, seed)
    close(in_two_runs(name, tensors, state, at), run(name, tensors, state, 8))


@QUICK
@given(names, lengths, seeds)
def test_batch_entries_are_independent(name, length, seed):
    tensors, state = drawn(name, length, seed, batch=3)
    given_inputs = inputs_of(name)
    order = torch.tensor([2, 0, 1])
    turned = {n: x[order] if n in given_inputs else x for n, x in tensors.items()}
    outputs, finals = run(name, tensors, state, 8)
    permuted = run(name, turned, {n: x[order] for n, x in state.items()}, 8)
    want = [{n: x[order] for n, x in found.items()} for found in (outputs, finals)]
    close(permuted, want)


@QUICK
@given(names, lengths, seeds)
def test_heads_are_independent(name, length, seed):
    tensors, state = drawn(name, length, seed)
    given_inputs = inputs_of(name)
    turned = {n: x.flip(2) if n in given_inputs else x.flip(0) for n, x in tensors.items()}
    outputs, finals = run(name, tensors, state, 8)
    permuted = run(name, turned, {n: x.flip(1) for n, x in state.items()}, 8)
    want = {n: x.flip(2) for n, x in outputs.items()}, {n: x.flip(1) for n, x in finals.items()}
    close(permuted, want)


@QUICK
@given(names, st.integers(1, 24), seeds, st.integers(1, 9))
def test_tokens_that_write_nothing_leave_the_state(name, length, seed, extra):
    """Neutral tokens on the right: keys, values and log decays of 0."""
    recurrence, _ = op(name)
    kept = any(
        x.domain.low >= 0 or (x.shape == () and x.domain.high > 0) for x in recurrence.inputs
    )
    writes_constants = "ones(K)" in SPECS[name] or "0.9" in SPECS[name] or kept
    if writes_constants or "parameters" in SPECS[name] or "sigmoid(raw" in SPECS[name]:
        return
    tensors, state = drawn(name, length, seed)
    padded = {
        n: torch.cat([x, x.new_zeros(x.shape[0], extra, *x.shape[2:])], 1)
        for n, x in tensors.items()
    }
    outputs, finals = run(name, tensors, state, 8)
    longer, after = run(name, padded, state, 8)
    close((outputs, finals), ({n: x[:, :length] for n, x in longer.items()}, after))


@pytest.mark.parametrize("decay", ["S = exp(g) * S", "S = exp(gk)[:, None] * S"])
def test_a_log_decay_of_zero_is_no_decay(decay):
    rest = "S = S + beta * outer(k, v - S.T @ k)\no = S.T @ q"
    recurrence, with_decay = op_of(spec("decayed", f"{decay}\n{rest}"))
    plain, without = op_of(spec("without", rest))
    case = draw(recurrence, Geometry(SIZES, 21), dtype=torch.float64)
    gate = "gk" if "gk" in decay else "g"
    zero = torch.zeros_like(case.tensors[gate])
    left = call(recurrence, with_decay, {**case.tensors, gate: zero}, case.initial_state)
    tensors = {n: x for n, x in case.tensors.items() if n != gate}
    close(left, call(plain, without, tensors, case.initial_state))


def test_no_strength_is_a_pure_decay():
    text = spec("probe", "S = exp(g) * S\nS = S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    recurrence, form = op_of(text)
    case = draw(recurrence, Geometry(SIZES, 21), dtype=torch.float64)
    tensors = {**case.tensors, "beta": torch.zeros_like(case.tensors["beta"])}
    outputs, finals = call(recurrence, form, tensors, case.initial_state)
    decay = tensors["g"].cumsum(1).exp()
    state = case.initial_state["S"]
    want = torch.einsum("bth,bhkv,bthk->bthv", decay, state, tensors["q"])
    torch.testing.assert_close(outputs["o"], want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(finals["S"], decay[:, -1, :, None, None] * state)


def test_a_decay_of_zero_starts_anew():
    """What comes after a gate of -inf is bit for bit a run from nothing."""
    text = spec("probe", "S = exp(g) * S\nS = S + beta * outer(k, v - S.T @ k)\no = S.T @ q")
    recurrence, form = op_of(text)
    case = draw(recurrence, Geometry(SIZES, 24), dtype=torch.float64)
    gate = case.tensors["g"].clone()
    gate[:, 8] = -torch.inf
    outputs, finals = call(recurrence, form, {**case.tensors, "g": gate}, case.initial_state)
    late = {n: x[:, 8:] for n, x in {**case.tensors, "g": gate}.items()}
    again, same = call(recurrence, form, late, None)
    close(({"o": outputs["o"][:, 8:]}, finals), (again, same))


@QUICK
@given(st.sampled_from(("two_decays", "other_erase_key", "value_side", "reads_around")), seeds)
def test_values_and_state_scale_by_powers_of_two(name, seed):
    """Linear in (v, S_0): a power of two changes no bit of the mantissa."""
    tensors, state = drawn(name, 21, seed)
    linear = {"d"} if name == "value_side" else {"v"}
    scaled = {n: 4 * x if n in linear else x for n, x in tensors.items()}
    linear_writes = name != "value_side"
    if not linear_writes:
        scaled = {**tensors, "d": 4 * tensors["d"]}
    outputs, finals = run(name, tensors, state, 8)
    more = run(name, scaled, {n: 4 * x for n, x in state.items()}, 8)
    equal(more, ({n: 4 * x for n, x in outputs.items()}, {n: 4 * x for n, x in finals.items()}))


@QUICK
@given(names, st.integers(3, 20), st.data())
def test_no_token_depends_on_a_later_one(name, length, data):
    """Exactly zero gradient of an output by every later input."""
    recurrence, form = op(name)
    token = data.draw(st.integers(0, length - 2))
    tensors, state = drawn(name, length, 0)
    leaves = {n: x.clone().requires_grad_() for n, x in tensors.items()}
    outputs, _ = call(recurrence, form, leaves, state)
    total = sum(x[:, : token + 1].sum() for x in outputs.values())
    wanted = [leaves[n] for n in inputs_of(name)]
    for gradient in torch.autograd.grad(total, wanted, allow_unused=True):
        assert gradient is None or bool((gradient[:, token + 1 :] == 0).all())
