"""The oracle against loops written by hand in NumPy, and its gradients against differences."""

import math

import numpy as np
import pytest
import torch
from verify_specs import BONUS, DELTA, FACTOR, NORMALISED, PRODUCT, RESET, RETENTION

from lincodegen.spec.loader import load
from lincodegen.verify.reference import run

B, T, H, K, V = 2, 5, 2, 3, 4


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def tensors_for(recurrence, length=T, batch=B, heads=H):
    sizes = {"K": K, "V": V, "D": 3}
    tensors = {
        x.name: normal(batch, length, heads, *(d.evaluate(sizes) for d in x.shape))
        for x in recurrence.inputs
    }
    tensors |= {
        x.name: normal(heads, *(d.evaluate(sizes) for d in x.shape)) for x in recurrence.parameters
    }
    for x in (*recurrence.inputs, *recurrence.parameters):
        if x.domain.high <= 0:
            tensors[x.name] = -tensors[x.name].abs()
        if x.norm is not None:
            tensors[x.name] = torch.nn.functional.normalize(tensors[x.name], dim=-1)
    return tensors


def by_hand(step, tensors, states, inputs):
    """Run ``step(token values, states) -> (outputs, states)`` for each batch entry and head."""
    x = {name: t.numpy() for name, t in tensors.items()}
    outputs = [[[None] * H for _ in range(T)] for _ in range(B)]
    finals = [[None] * H for _ in range(B)]
    for b in range(B):
        for h in range(H):
            carried = [s.numpy()[b, h] for s in states]
            for t in range(T):
                token = {n: a[b, t, h] if n in inputs else a[h] for n, a in x.items()}
                outputs[b][t][h], carried = step(token, carried)
            finals[b][h] = carried
    stacked = [
        np.array([[[outputs[b][t][h][i] for h in range(H)] for t in range(T)] for b in range(B)])
        for i in range(len(outputs[0][0][0]))
    ]
    last = [
        np.array([[finals[b][h][i] for h in range(H)] for b in range(B)])
        for i in range(len(states))
    ]
    return stacked, last


def agrees(recurrence, step, **replace):
    tensors = tensors_for(recurrence) | replace
    sizes = {"K": K, "V": V}
    states = {
        s.name: normal(B, H, *(d.evaluate(sizes) for d in s.shape)) for s in recurrence.states
    }
    outputs, finals = run(recurrence, tensors, initial_state=states)
    inputs = {x.name for x in recurrence.inputs}
    wanted, last = by_hand(step, tensors, list(states.values()), inputs)
    for found, expected in zip([*outputs.values(), *finals.values()], wanted + last, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_retention():
    def step(x, states):
        (state,) = states
        state = math.exp(x["g"]) * state + x["k"][:, None] * x["v"][None, :]
        return (K**-0.5 * np.einsum("kv,k->v", state, x["q"]),), (state,)

    agrees(RETENTION, step)


def test_gated_delta_rule():
    def step(x, states):
        (state,) = states
        state = np.exp(x["g"]) * state
        wrong = x["v"] - np.einsum("kv,k->v", state, x["k"])
        state = state + x["beta"] * np.einsum("k,v->kv", x["k"], wrong)
        return (K**-0.5 * np.einsum("kv,k->v", state, x["q"]),), (state,)

    g = -torch.rand(B, T, H, dtype=torch.float64)
    g[0, 2, 1] = -math.inf
    agrees(DELTA, step, g=g)


def test_two_householder_factors():
    def step(x, states):
        (state,) = states
        state = np.diag(np.exp(x["g"])) @ state
        for j in range(2):
            key = x["k"][j] / np.sqrt((x["k"][j] ** 2).sum() + 1e-6)
            reflection = np.eye(K) - x["beta"][j] * np.outer(key, key)
            state = reflection @ state + x["beta"][j] * np.outer(key, x["v"][j])
        return (state.T @ x["q"],), (state,)

    agrees(PRODUCT, step, k=normal(B, T, H, 2, K), v=normal(B, T, H, 2, V))


def test_read_before_the_update_with_bonus():
    def step(x, states):
        (state,) = states
        read = state.T @ x["q"] + (x["u"] * x["k"] * x["q"]).sum() * x["v"]
        return (read,), (np.exp(x["g"])[:, None] * state + np.outer(x["k"], x["v"]),)

    agrees(BONUS, step)


def test_normaliser_is_a_second_state():
    def step(x, states):
        state, total = states
        forget, gain = 1 / (1 + np.exp(-x["f"])), np.exp(x["i"])
        state = forget * state + gain * np.outer(x["k"], x["v"])
        total = forget * total + gain * x["k"]
        size = max(abs(total @ x["q"]), 1.0)
        return (state.T @ x["q"] / size, size), (state, total)

    agrees(NORMALISED, step)


def flat_run(recurrence, names, **options):
    def function(*values):
        values = dict(zip(names, values, strict=True))
        states = {n.removeprefix("state "): x for n, x in values.items() if n.startswith("state ")}
        tensors = {n: x for n, x in values.items() if not n.startswith("state ")}
        outputs, finals = run(recurrence, tensors, initial_state=states, **options)
        return (*outputs.values(), *finals.values())

    return function


@pytest.mark.parametrize("length", [0, 1, 4])
@pytest.mark.parametrize("recurrence", [RETENTION, DELTA, BONUS, NORMALISED], ids=lambda r: r.name)
def test_gradients_against_differences(recurrence, length):
    values = tensors_for(recurrence, length, batch=1)
    sizes = {"K": K, "V": V}
    values |= {
        f"state {s.name}": normal(1, H, *(d.evaluate(sizes) for d in s.shape))
        for s in recurrence.states
    }
    leaves = [x.requires_grad_() for x in values.values()]
    assert torch.autograd.gradcheck(flat_run(recurrence, list(values)), leaves)


def test_gradients_with_a_decay_of_zero():
    """-inf has no neighbours to take differences with; the other arguments have."""
    tensors = tensors_for(DELTA, batch=1)
    tensors["g"][0, 2] = -math.inf
    gate = tensors.pop("g")
    leaves = [x.requires_grad_() for x in tensors.values()]

    def function(*values):
        given = dict(zip(tensors, values, strict=True)) | {"g": gate}
        outputs, finals = run(DELTA, given)
        return outputs["o"], finals["S"]

    assert torch.autograd.gradcheck(function, leaves)
    gate.requires_grad_()
    (gradient,) = torch.autograd.grad(function(*leaves)[0].sum(), [gate])
    assert gradient.isfinite().all()
    assert (gradient[0, 2] == 0).all()
    assert gradient[0, 3].abs().min() > 0


def test_nothing_flows_out_of_the_branch_not_taken():
    x = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64).expand(1, 3, 1, 3).clone()
    r = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).reshape(1, 3, 1)
    x.requires_grad_()
    initial = torch.full((1, 1, 3), math.inf, dtype=torch.float64, requires_grad=True)
    outputs, _ = run(RESET, {"x": x, "r": r}, initial_state={"c": initial})
    dx, dc = torch.autograd.grad(outputs["o"][:, 1:].sum(), [x, initial])
    assert torch.equal(dx[0, :, 0, 0], torch.tensor([0.0, 0.75, 0.5], dtype=torch.float64))
    assert (dx[..., 1:] == 0).all()
    assert (dc == 0).all()


def test_guarded_products_agree_with_plain_ones():
    text = """
name: products
inputs: {{a: {{shape: [K]}}, b: {{shape: [V]}}, m: {{shape: [K, V]}}}}
state: {{S: {{shape: [K, V]}}}}
outputs: [o, p, l]
step: |
  S = 0.5 * S @ (m.T @ m) + outer(a, b) + {one} * softmax(m)
  o = S @ b + diag(a) @ S @ b
  p = a @ S + dot(a, S @ b) * b
  l = layernorm(a) * rmsnorm(a) + cumsum(a)
"""
    plain = load(text.format(one="1.0"))
    guarded = load(text.format(one="where(0 < 1, 1.0, 2.0)"))
    tensors = {n: x.requires_grad_() for n, x in tensors_for(plain).items()}
    found = []
    for recurrence in (plain, guarded):
        outputs, finals = run(recurrence, tensors)
        total = sum(x.square().sum() for x in (*outputs.values(), *finals.values()))
        gradients = torch.autograd.grad(total, list(tensors.values()))
        found.append((*outputs.values(), *finals.values(), *gradients))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_heads_repeat_in_order():
    """Head h of H is head h // (H / Hx) of a tensor with Hx heads, parameters too."""
    tensors = tensors_for(BONUS, heads=4)
    fewer = dict(tensors) | {
        "q": tensors["q"][:, :, :2],
        "k": tensors["k"][:, :, :1],
        "u": tensors["u"][:1],
    }
    repeated = dict(tensors) | {
        "q": tensors["q"][:, :, [0, 0, 1, 1]],
        "k": tensors["k"][:, :, [0, 0, 0, 0]],
        "u": tensors["u"][[0, 0, 0, 0]],
    }
    for a, b in zip(run(BONUS, fewer), run(BONUS, repeated), strict=True):
        for name, x in a.items():
            assert torch.equal(x, b[name])


def test_states_and_outputs_have_their_own_head_counts():
    recurrence = load("""
name: counts
inputs: {x: {shape: []}, y: {shape: []}, z: {shape: []}}
state: {a: {shape: []}, b: {shape: []}}
outputs: [o, p]
step: |
  a = 0.5 * a + x
  b = 0.5 * b + y
  o = a
  p = b + z
""")
    tensors = {"x": normal(1, 2, 2), "y": normal(1, 2, 1), "z": normal(1, 2, 4)}
    outputs, finals = run(recurrence, tensors)
    assert [finals[n].shape for n in "ab"] == [(1, 2), (1, 1)]
    assert [outputs[n].shape for n in "op"] == [(1, 2, 2), (1, 2, 4)]
    with pytest.raises(ValueError, match="do not divide"):
        run(recurrence, tensors | {"y": normal(1, 2, 3)})


def test_defaults_count_the_heads_of_the_state():
    tensors = tensors_for(RETENTION, heads=4)
    del tensors["g"]
    g = torch.tensor([math.log1p(-(2.0 ** (-5 - h))) for h in range(4)], dtype=torch.float64)
    with_default, _ = run(RETENTION, tensors)
    given, _ = run(RETENTION, tensors | {"g": g})
    torch.testing.assert_close(with_default["o"], given["o"], rtol=1e-14, atol=0)


def test_constants_have_defaults_and_values():
    tensors = tensors_for(RETENTION)
    once, _ = run(RETENTION, tensors)
    twice, _ = run(RETENTION, tensors, constants={"scale": 2 * K**-0.5})
    none, _ = run(RETENTION, tensors, constants={"scale": None})
    torch.testing.assert_close(twice["o"], 2 * once["o"])
    assert torch.equal(none["o"], once["o"])


@pytest.mark.parametrize("offsets", [[0, 0, 2, 2, 5], [0, 5, 5], [0, 1, 5]])
def test_packed_sequences_are_separate_runs(offsets):
    tensors = tensors_for(DELTA, batch=1)
    count = len(offsets) - 1
    initial = normal(count, H, K, V)
    outputs, finals = run(
        DELTA, tensors, initial_state={"S": initial}, cu_seqlens=torch.tensor(offsets)
    )
    for n in range(count):
        a, b = offsets[n : n + 2]
        piece = {name: x[:, a:b] for name, x in tensors.items()}
        alone, final = run(DELTA, piece, initial_state={"S": initial[n : n + 1]})
        assert torch.equal(outputs["o"][:, a:b], alone["o"])
        assert torch.equal(finals["S"][n : n + 1], final["S"])
        assert b > a or torch.equal(final["S"], initial[n : n + 1])


def test_no_token_gives_the_initial_state_back():
    tensors = tensors_for(NORMALISED, length=0)
    initial = {"S": normal(B, H, K, V), "z": normal(B, H, K)}
    outputs, finals = run(NORMALISED, tensors, initial_state=initial)
    assert outputs["o"].shape == (B, 0, H, V)
    assert outputs["m"].shape == (B, 0, H)
    assert all(torch.equal(finals[name], initial[name]) for name in initial)
    _, zero = run(NORMALISED, tensors)
    assert all((x == 0).all() for x in zero.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": None}, "missing"),
        ({"unknown": normal(1)}, "unknown"),
        ({"q": normal(B, T, H, K + 1)}, "is not"),
        ({"q": normal(B, T, H)}, "axes"),
        ({"q": normal(B, T + 1, H, K)}, "one \\[B, T\\]"),
    ],
)
def test_wrong_tensors_are_named(change, message):
    tensors = tensors_for(DELTA) | change
    with pytest.raises(ValueError, match=message):
        run(DELTA, {n: x for n, x in tensors.items() if x is not None})


def test_wrong_initial_state_is_named():
    with pytest.raises(ValueError, match="initial S"):
        run(DELTA, tensors_for(DELTA), initial_state={"S": normal(B, H, V, K)})
    with pytest.raises(ValueError, match="no such state"):
        run(DELTA, tensors_for(DELTA), initial_state={"X": None})


@pytest.mark.parametrize("offsets", [[1, 5], [0, 4], [0]])
def test_wrong_offsets_are_refused(offsets):
    with pytest.raises(ValueError, match="cu_seqlens"):
        run(DELTA, tensors_for(DELTA, batch=1), cu_seqlens=offsets)


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "silu", "gelu", "tanh", "elu", "relu"])
def test_pointwise_functions(name):
    recurrence = load(f"""
name: pointwise
inputs: {{x: {{shape: []}}}}
state: {{c: {{shape: []}}}}
step: |
  c = c + {name}(x)
  o = {name}(x)
""")
    points = [-800.0, -30.0, -1.0, -1e-9, 0.0, 0.5, 30.0, 800.0]
    x = torch.tensor(points, dtype=torch.float64).reshape(1, -1, 1).requires_grad_()
    outputs, _ = run(recurrence, {"x": x})
    (slope,) = torch.autograd.grad(outputs["o"].sum(), [x])
    expected = {
        "sigmoid": lambda v: 0.5 * (1 + math.tanh(v / 2)),
        "softplus": lambda v: max(v, 0.0) + math.log1p(math.exp(-abs(v))),
        "silu": lambda v: v * 0.5 * (1 + math.tanh(v / 2)),
        "gelu": lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))),
        "tanh": math.tanh,
        "elu": lambda v: v if v > 0 else math.expm1(v),
        "relu": lambda v: max(v, 0.0),
    }[name]
    np.testing.assert_allclose(
        outputs["o"].detach().flatten(), [expected(v) for v in points], rtol=1e-12, atol=1e-13
    )
    assert slope.isfinite().all()
    if name == "softplus":
        assert slope.flatten()[4] == 0.5


def test_factor_gradient_at_zero_is_exact():
    w = torch.zeros(1, 1, 1, 2, dtype=torch.float64, requires_grad=True)
    c = torch.tensor([[[3.0, 4.0]]], dtype=torch.float64)
    outputs, _ = run(FACTOR, {"w": w, "x": torch.zeros_like(w)}, initial_state={"c": c})
    (dw,) = torch.autograd.grad(outputs["o"].sum(), [w])
    assert torch.equal(dw.flatten(), c.flatten())


def test_structural_functions():
    """Each move of entries and each norm against NumPy."""
    recurrence = load("""
name: structure
inputs:
  x: {shape: [K]}
  y: {shape: [2 * K]}
  m: {shape: [K, V]}
  w: {shape: [n, V]}
  s: {shape: []}
constants: {n: 2}
state: {S: {shape: [K, V]}, r: {shape: [K * V]}}
outputs: [a, b, c, d, e, f, g, i, j, l]
step: |
  S = 0.5 * S + eye(K) @ m
  r = 0.5 * r + ravel(m)
  a = concat(x, y[K:2 * K], m.T @ x)
  b = w[n - 1] + sum(m, axis=0) + mean(m, axis=1)[0]
  c = cumsum(x) + softmax(x) - l2norm(x)
  d = rmsnorm(m) * layernorm(m)
  e = x[:, None] - m / 3
  f = x @ m @ m.T @ x + dot(x, x) + sum(m) + mean(r)
  g = outer(x, ones(V)) + zeros(K, V) - diag(x) @ m
  i = maximum(x, 0.1) - minimum(x, y[0:K]) + abs(x) * sign(x)
  z = x * x
  j = (z + 1) ** 1.5 + 2 ** x + sqrt(z) * rsqrt(1 + z) + log(1 + z) + log1p(z)
  l = where(s >= 0, s, -2 * s) + where(x[0] < 0, 1, 0)
""")
    tensors = tensors_for(recurrence, batch=B)
    outputs, finals = run(recurrence, tensors)

    def norm(v):
        return v / np.sqrt((v * v).mean(-1, keepdims=True) + 1e-6)

    for b in range(B):
        for h in range(H):
            state, flat = np.zeros((K, V)), np.zeros(K * V)
            for t in range(T):
                x, y, m, w, s = (tensors[name][b, t, h].numpy() for name in "xymws")
                state, flat = 0.5 * state + m, 0.5 * flat + m.reshape(-1)
                e = np.exp(x - x.max())
                expected = {
                    "a": np.concatenate([x, y[K:], m.T @ x]),
                    "b": w[1] + m.sum(0) + m.mean(1)[0],
                    "c": x.cumsum() + e / e.sum() - x / np.sqrt((x * x).sum() + 1e-6),
                    "d": norm(m) * norm(m - m.mean(-1, keepdims=True)),
                    "e": x[:, None] - m / 3,
                    "f": x @ m @ m.T @ x + x @ x + m.sum() + flat.mean(),
                    "g": np.outer(x, np.ones(V)) - np.diag(x) @ m,
                    "i": np.maximum(x, 0.1) - np.minimum(x, y[:K]) + x,
                    "j": (x * x + 1) ** 1.5
                    + 2**x
                    + abs(x) / np.sqrt(1 + x * x)
                    + 2 * np.log(1 + x * x),
                    "l": (s if s >= 0 else -2 * s) + (x[0] < 0),
                }
                for name, value in expected.items():
                    np.testing.assert_allclose(outputs[name][b, t, h], value, rtol=1e-12)
            np.testing.assert_allclose(finals["r"][b, h], flat, rtol=1e-12)


def test_products_of_rounded_operands():
    recurrence = load("""
name: rounded
inputs: {x: {shape: [K]}}
state: {c: {shape: []}}
step: |
  c = 0.5 * c + dot(x, x)
  o = c
""")
    x = torch.full((1, 1, 1, 2), 1.00390625, dtype=torch.float64)
    exact, _ = run(recurrence, {"x": x})
    rounded, _ = run(recurrence, {"x": x}, operands=torch.bfloat16)
    assert exact["o"].item() == 2 * 1.00390625**2
    assert rounded["o"].item() == 2.0
