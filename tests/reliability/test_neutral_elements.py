"""Tokens and gates that do nothing, or all: what holds for them whatever the shapes and seeds."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import NAMES, differing, forward, recurrence_of
from test_op_properties import (
    CHUNK,
    ODD,
    case_of,
    changed,
    close,
    inputs_of,
    seeds,
    shapes,
    small_chunks,
)

from lincodegen.runtime.call import Call
from lincodegen.verify import compare
from lincodegen.verify.adversaries import log_decays

__all__ = ["small_chunks"]

every_op = pytest.mark.parametrize("name", NAMES)
few = settings(max_examples=8)
# their decay is a head's: tokens of zeros decay the state too
GATE_OF_A_HEAD = ("retention", "lightning_attention")


def token_gates(name):
    """Log decays of a token that may be -inf."""
    recurrence = recurrence_of(name)
    return [
        x.name
        for x in log_decays(recurrence)
        if x in recurrence.inputs and x.domain.low == -torch.inf
    ]


def with_tensors(case, **tensors):
    return replace(case, tensors={**case.tensors, **tensors})


@pytest.mark.parametrize("name", [n for n in NAMES if n not in GATE_OF_A_HEAD])
@few
@given(shape=shapes(length=st.integers(1, 20)), count=st.integers(1, 2 * CHUNK), data=st.data())
def test_tokens_of_zeros_do_nothing(name, shape, count, data):
    """Wherever they stand, within the tolerance of float32; on the right not a bit changes."""
    case, length = case_of(name, shape), shape[1]
    plain = forward(name, "torch", case)
    anywhere = data.draw(st.integers(0, length))
    for place in (anywhere, length):
        longer = changed(
            case,
            name,
            lambda x, p=place: torch.cat(
                [x[:, :p], x.new_zeros(len(x), count, *x.shape[2:]), x[:, p:]], 1
            ),
            lambda x: x,
        )
        found = {
            n: x if n.startswith("final") else torch.cat([x[:, :place], x[:, place + count :]], 1)
            for n, x in forward(name, "torch", longer).items()
        }
        if place == length:
            assert differing(found, plain) == []
        else:
            close(name, case, found, plain)


# of dplr the erased value is read before the decay, so that it does not end with it
@pytest.mark.parametrize("name", [n for n in NAMES if token_gates(n) and n != "dplr"])
@few
@given(shape=shapes(length=st.integers(2, 33)), data=st.data())
def test_a_decay_of_zero_starts_anew(name, shape, data):
    """After it all is as if the sequence had started with its token; bit for bit at a chunk."""
    case, length = case_of(name, shape), shape[1]
    at_chunk = data.draw(st.integers(0, (length - 1) // CHUNK)) * CHUNK
    for start in (data.draw(st.integers(0, length - 1)), at_chunk):
        gates = {n: case.tensors[n].clone() for n in token_gates(name)}
        for x in gates.values():
            x[:, start] = -torch.inf
        closed = with_tensors(case, **gates)
        rest = changed(closed, name, lambda x, s=start: x[:, s:], lambda x: x)
        rest = replace(rest, initial_state=None)
        found, wanted = forward(name, "torch", closed), forward(name, "torch", rest)
        # what is read before the update does not see the decay of its token
        after = {n: x if n.startswith("final") else x[:, start + 1 :] for n, x in found.items()}
        anew = {n: x if n.startswith("final") else x[:, 1:] for n, x in wanted.items()}
        if start == at_chunk:
            assert differing(after, anew) == []
            continue
        for n, x in after.items():
            assert compare.largest(compare.difference(x, anew[n])) <= 1e-5 * (
                1e-6 + compare.largest(anew[n])
            ), n


KEYS = {"mamba2": "dt", "hgrn2": "g", "gsa": "s"}


@every_op
@few
@given(shape=shapes(), other=seeds)
def test_a_key_of_zero_writes_nothing(name, shape, other):
    """The bits of results do not depend on values that nothing writes."""
    key, value = KEYS.get(name, "k"), "x" if name == "mamba2" else "v"
    case, second = (case_of(name, (*shape[:4], seed)) for seed in (shape[4], other))
    still = {key: torch.zeros_like(case.tensors[key])}
    if name == "mamba2":
        still["D"] = torch.zeros_like(case.tensors["D"])
    plain = with_tensors(case, **still)
    changed_value = with_tensors(plain, **{value: second.tensors[value]})
    assert differing(forward(name, "torch", plain), forward(name, "torch", changed_value)) == []


@pytest.mark.parametrize("name", [n for n in NAMES if "beta" in inputs_of(n)])
@few
@given(shape=shapes(), other=seeds)
def test_a_rate_of_zero_leaves_the_decay_alone(name, shape, other):
    """The state is the initial one, decayed; keys and values change no bit."""
    case, second = (case_of(name, (*shape[:4], seed)) for seed in (shape[4], other))
    plain = with_tensors(case, beta=torch.zeros_like(case.tensors["beta"]))
    found = forward(name, "torch", plain)
    moved = with_tensors(plain, **{n: second.tensors[n] for n in "kv"})
    assert differing(found, forward(name, "torch", moved)) == []
    decay = torch.zeros(1)
    if "g" in plain.tensors:
        total = plain.tensors["g"].double().sum(1)
        decay = total[..., None] if total.dim() > 2 else total[..., None, None]
    wanted = decay.exp() * plain.initial_state["S"]
    assert compare.f2(found["final S"], wanted, wanted.float()).passed


PAIRS = [
    ("gated_delta_rule", "delta_rule"),
    ("kda", "delta_rule"),
    ("gla", "linear_attention"),
    ("retention", "linear_attention"),
    ("lightning_attention", "linear_attention"),
]


@pytest.mark.parametrize(("name", "plain"), PAIRS)
@few
@given(shape=shapes())
def test_a_log_decay_of_zero_is_none(name, plain, shape):
    """The rule without the gate, within the tolerance of float32."""
    case = case_of(plain, shape)
    gated = case_of(name, shape)
    zeros = {
        x.name: torch.zeros_like(gated.tensors[x.name]) for x in log_decays(recurrence_of(name))
    }
    order = [x.name for x in (*recurrence_of(name).inputs, *recurrence_of(name).parameters)]
    tensors = {**case.tensors, **zeros}
    open_gate = replace(case, tensors={n: tensors[n] for n in order})
    close(plain, case, forward(name, "torch", open_gate), forward(plain, "torch", case))


@every_op
@few
@given(shape=shapes(size=ODD), chunk=st.sampled_from([1, 2, 4, 16, 32, 64]))
def test_any_chunk_gives_the_same(name, shape, chunk):
    """In float64 within 1e-9 of a chunk of 8."""
    case = case_of(name, shape, torch.float64)
    wanted = forward(name, "torch", case)
    with patch.object(Call, "chunk_size", property(lambda _: chunk)):
        found = forward(name, "torch", case)
    assert all(compare.f1(found[n], x).passed for n, x in wanted.items())
