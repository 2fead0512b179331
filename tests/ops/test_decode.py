"""One token after another: against the recurrence, in a pool, in either layout, in 16 bits."""

from functools import cache

import pytest
import torch
from op_cases import FORMS, NAMES, device_of, recurrence_of, sizes_of

from lincodegen.loading import load_shipped
from lincodegen.runtime.backend import backend
from lincodegen.runtime.schedules import use_schedule
from lincodegen.verify.call import call
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.reference import run

TOKENS = 4
BATCH = 3
SLOTS = 8
both_forms = pytest.mark.parametrize("form", FORMS)
every_op = pytest.mark.parametrize("name", NAMES)
# heads of the first tensor, and of the others in turn: all alike, grouped values, grouped queries
HEADS = {"alike": (2, 2, 2), "grouped values": (1, 1, 2), "grouped queries": (4, 2, 1)}


@cache
def drawn(name, heads="alike", dtype=torch.float32):
    """Tensors and initial states of BATCH sequences of TOKENS tokens."""
    recurrence = recurrence_of(name)
    first, second, third = HEADS[heads]
    tensors = (*recurrence.inputs, *recurrence.parameters)
    counts = {x.name: third if i % 2 else second for i, x in enumerate(tensors)}
    counts[tensors[0].name] = first
    return draw(recurrence, Geometry(sizes_of(name), TOKENS, BATCH, counts), dtype=dtype)


@cache
def expected(name, heads="alike"):
    """Outputs and final states by name, in float64."""
    case = drawn(name, heads)
    return run(recurrence_of(name), case.tensors, initial_state=case.initial_state)


def token(name, case, t, device="cpu"):
    """The tensors of one token by name."""
    inputs = {x.name for x in recurrence_of(name).inputs}
    given = {n: x[:, t] if n in inputs else x for n, x in case.tensors.items()}
    return {n: x.to(device) for n, x in given.items()}


def step(name, form, tensors, states, **options):
    """Outputs by name after one token; ``states`` by name are written."""
    recurrence = recurrence_of(name)
    given = tuple(states[s.name] for s in recurrence.states)
    with backend(form):
        result, returned = load_shipped(name).step(
            **tensors, state=given if len(given) > 1 else given[0], **options
        )
    returned = returned if len(given) > 1 else (returned,)
    assert all(a is b for a, b in zip(returned, given, strict=True))
    names = [n for n, _ in recurrence.outputs]
    return dict(zip(names, result if len(names) > 1 else (result,), strict=True))


def steps(name, form, case, states, **options):
    """Outputs [B, T, ...] by name of all tokens."""
    device = device_of(form)
    found = [step(name, form, token(name, case, t, device), states, **options) for t in range(4)]
    return {n: torch.stack([x[n] for x in found], 1) for n in found[0]}


def entered(case, form, dtype=torch.float32):
    device = device_of(form)
    return {n: x.to(device, dtype, copy=True) for n, x in case.initial_state.items()}


def assert_near(found, want, bound=2e-6):
    assert found.keys() == want.keys()
    for name, x in found.items():
        exact = want[name].double()
        error = (x.double().cpu() - exact).norm() / exact.norm()
        assert x.shape == exact.shape, name
        assert error < bound, f"{name}: {error:.1e}"


def bits(x):
    return x.contiguous().view(torch.uint8)


@both_forms
@every_op
@pytest.mark.parametrize("heads", HEADS)
def test_steps_are_the_recurrence(name, form, heads):
    case, (outputs, finals) = drawn(name, heads), expected(name, heads)
    states = entered(case, form)
    assert_near(steps(name, form, case, states), outputs)
    assert_near(states, finals)


@pytest.mark.parametrize("schedule", ["scan", "recurrent"])
@every_op
def test_whole_sequences_agree_with_steps(name, schedule):
    case = drawn(name, "grouped values")
    states = entered(case, "torch")
    outputs = steps(name, "torch", case, states)
    with backend("torch"), use_schedule(schedule):
        found, finals = call(
            recurrence_of(name), load_shipped(name), case.tensors, case.initial_state
        )
    assert_near(found, outputs, bound=1e-5)
    assert_near(finals, states, bound=1e-5)


@both_forms
@every_op
@pytest.mark.parametrize("slots", [(5, -1, 2), (-7, -1, -1), (7, 1, 4)], ids=str)
def test_a_pool_is_read_and_written_at_its_slots(name, form, slots):
    case, device = drawn(name, "grouped values"), device_of(form)
    tensors = token(name, case, 0, device)
    own = entered(case, form)
    poisoned = torch.full((), torch.nan, device=device)
    pools = {n: poisoned.expand(SLOTS, *x.shape[1:]).clone() for n, x in own.items()}
    live = [b for b, slot in enumerate(slots) if slot >= 0]
    for n, x in own.items():
        for b in live:
            pools[n][slots[b]] = x[b]
    before = {n: x.clone() for n, x in pools.items()}
    indices = torch.tensor(slots, dtype=torch.int32 if live else torch.int64, device=device)
    wanted = step(name, form, tensors, own)
    found = step(name, form, tensors, pools, state_indices=indices)
    for n, x in found.items():
        for b, slot in enumerate(slots):
            row = wanted[n][b] if slot >= 0 else torch.zeros_like(wanted[n][b])
            assert torch.equal(x[b], row), f"{n}, token {b}"
    for n, pool in pools.items():
        for b in live:
            assert torch.equal(pool[slots[b]], own[n][b]), f"{n}, slot {slots[b]}"
        rest = [p for p in range(SLOTS) if p not in slots]
        assert torch.equal(bits(pool[rest]), bits(before[n][rest])), n


@both_forms
@every_op
def test_the_layout_with_values_first(name, form):
    case, (outputs, finals) = drawn(name), expected(name)
    states = {n: x.mT.contiguous() if x.dim() == 4 else x for n, x in entered(case, form).items()}
    assert_near(steps(name, form, case, states, state_v_first=True), outputs)
    assert_near({n: x.mT if x.dim() == 4 else x for n, x in states.items()}, finals)


@both_forms
@every_op
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_narrow_state_is_computed_with_in_float32_and_rounded(name, form, dtype):
    case, device = drawn(name), device_of(form)
    tensors = token(name, case, 1, device)
    narrow = entered(case, form, dtype)
    wide = {n: x.float() for n, x in narrow.items()}
    wanted = step(name, form, tensors, wide)
    found = step(name, form, tensors, narrow)
    for n, x in found.items():
        assert torch.equal(x, wanted[n]), n
    for n, x in narrow.items():
        assert torch.equal(x, wide[n].to(dtype)), n


@both_forms
@pytest.mark.parametrize("name", ["gated_delta_rule", "gsa", "linear_attention_normalized"])
def test_a_narrow_pool_of_values_first_with_gaps_between_slots(name, form):
    case, device = drawn(name, "grouped queries"), device_of(form)
    own, pools, backing = entered(case, form, torch.bfloat16), {}, {}
    for n, x in own.items():
        x = x.mT if x.dim() == 4 else x
        backing[n] = torch.full((SLOTS, x[0].numel() + 8), 3.0, dtype=x.dtype, device=device)
        pools[n] = backing[n][:, :-8].unflatten(1, x.shape[1:])
        pools[n][2:5] = x
    indices = torch.tensor([2, 3, 4], device=device)
    options = {"state_indices": indices, "state_v_first": True}
    wanted = steps(name, form, case, own)
    assert_near(steps(name, form, case, pools, **options), wanted)
    for n, x in own.items():
        x = x.mT if x.dim() == 4 else x
        torch.testing.assert_close(pools[n][2:5], x, rtol=2**-7, atol=2**-10)
        assert bool((backing[n][:, -8:] == 3.0).all())
        assert bool((backing[n][[0, 1, 5, 6, 7]] == 3.0).all())


@both_forms
def test_inputs_of_any_dtype_and_stride(form):
    name, device = "gated_delta_rule", device_of(form)
    case = drawn(name, dtype=torch.bfloat16)
    tensors = token(name, case, 0, device)
    spread = {n: x.repeat_interleave(2, -1)[..., ::2] for n, x in tensors.items()}
    first, second = entered(case, form), entered(case, form)
    wanted, found = step(name, form, tensors, first), step(name, form, spread, second)
    assert found["o"].dtype == torch.bfloat16
    assert torch.equal(found["o"], wanted["o"])
    assert torch.equal(first["S"], second["S"])


@both_forms
def test_without_a_state_one_is_begun_in_the_layout_asked_for(form):
    name = "gated_delta_rule"
    tensors = token(name, drawn(name), 0, device_of(form))
    with backend(form):
        o, state = load_shipped(name).step(**tensors)
        p, swapped = load_shipped(name).step(**tensors, state_v_first=True)
    assert state.dtype == torch.float32
    assert swapped.is_contiguous()
    torch.testing.assert_close(p, o)
    torch.testing.assert_close(swapped.mT, state)


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, 2e-6), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)],
    ids=str,
)
def test_the_drift_of_ten_thousand_tokens(dtype, bound):
    name, length = "gated_delta_rule", 10_000
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(1, length, 1, *shape, generator=generator)

    q, k = (torch.nn.functional.normalize(normal(8), dim=-1) for _ in range(2))
    v, g, beta = normal(8), -0.01 * normal().abs(), torch.sigmoid(normal())
    op, state = load_shipped(name), torch.zeros(1, 1, 8, 8, dtype=dtype)
    with backend("torch"):
        for t in range(length):
            o, _ = op.step(q[:, t], k[:, t], v[:, t], g[:, t], beta[:, t], state=state)
        exact, final = op(*(x.double() for x in (q, k, v, g, beta)), output_final_state=True)
    assert_near({"o": o, "S": state}, {"o": exact[:, -1], "S": final}, bound)


def test_under_autocast_a_step_is_the_same():
    name, case = "kda", drawn("kda")
    tensors, states = token(name, case, 0), [entered(case, "torch") for _ in range(2)]
    wanted = step(name, "torch", tensors, states[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = step(name, "torch", tensors, states[1])
    assert torch.equal(found["o"], wanted["o"])
    assert torch.equal(states[1]["S"], states[0]["S"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"state_indices": torch.zeros(3, dtype=torch.int64)}, ValueError, "a pool for state_ind"),
        ({"state": 1.0}, TypeError, r"the state S is float; expected: a tensor \[B, H, K, V\]"),
        ({"state": torch.zeros(3, 2, 12, 20)}, ValueError, r"\[3, 2, 20, 12\]"),
        ({"state": torch.zeros(3, 2, 20, 12), "state_v_first": True}, ValueError, r"B, H, V, K"),
        ({"state": torch.zeros(3, 2, 20, 12, dtype=torch.int32)}, ValueError, "int32"),
        ({"state": (None, None)}, ValueError, "2 entries; expected: a tuple of 1"),
        (
            {"state": torch.zeros(9, 2, 20, 12), "state_indices": torch.zeros(3)},
            ValueError,
            r"state_indices has \[3\] in float32 on cpu; expected: a tensor \[3\] in int32",
        ),
        (
            {"state": torch.zeros(9, 2, 20, 12), "state_indices": torch.zeros(2).long()},
            ValueError,
            r"state_indices has \[2\] in int64",
        ),
        (
            {"state": torch.zeros(9, 2, 20, 12), "state_indices": [0, 1, 2]},
            TypeError,
            "state_indices is list",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, error, message):
    tensors = token("gated_delta_rule", drawn("gated_delta_rule"), 0)
    with pytest.raises(error, match=message):
        load_shipped("gated_delta_rule").step(**tensors, **options)


@pytest.mark.gpu
@every_op
def test_a_captured_step_serves_new_slots(name):
    case = drawn(name, "grouped values")
    tensors = token(name, case, 0, "cuda")
    pools = {
        n: torch.randn(SLOTS, *x.shape[1:], device="cuda")
        for n, x in entered(case, "triton").items()
    }
    twin = {n: x.clone() for n, x in pools.items()}
    indices = torch.full((BATCH,), -1, dtype=torch.int32, device="cuda")
    step(name, "triton", tensors, pools, state_indices=indices)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step(name, "triton", tensors, pools, state_indices=indices)
    for slots in ([1, -1, 0], [-1, 6, 2]):
        indices.copy_(torch.tensor(slots))
        graph.replay()
        wanted = step(name, "triton", tensors, twin, state_indices=indices)
        assert all(torch.equal(found[n], x) for n, x in wanted.items())
        assert all(torch.equal(pools[n], x) for n, x in twin.items())
