"""Printed token functions and their adjoints against the oracle and its autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_cases import (
    EXPRESSIONS,
    SIZES,
    call,
    imported,
    lint_problems,
    module_text,
    programs,
    spec_of,
    tensors_for,
)

from lincodegen.verify.reference import run


def check(text, folder, name, lint=True, tolerance=1e-11):
    """Outputs and gradients of the printed functions equal the oracle's."""
    recurrence, forward, adjoint = programs(text)
    source = module_text(forward, adjoint)
    if lint:
        assert lint_problems(source, folder) == "", source
    module = imported(source, folder, name)
    values = tensors_for(recurrence, 1)
    leaves = {n: x.clone().requires_grad_() for n, x in values.items()}
    expected = run(recurrence, leaves)[0]["o"]
    constants = {"scale": 0.4, "rate": 0.7}
    (got,) = call(module.forward, forward, {**values, **constants})
    torch.testing.assert_close(got.expand(expected.shape), expected, rtol=tolerance, atol=tolerance)
    do = torch.randn(expected.shape, dtype=torch.float64)
    wanted = torch.autograd.grad(expected, leaves.values(), do, allow_unused=True)
    gradients = call(module.adjoint, adjoint, {**values, **constants, "do": do})
    for output, gradient in zip(adjoint.outputs, gradients, strict=True):
        value = values[output.name[1:]]
        want = dict(zip(leaves, wanted, strict=True))[output.name[1:]]
        want = torch.zeros_like(value) if want is None else want
        summed = gradient
        while summed.ndim > value.ndim:
            summed = summed.sum(0)
        message = f"{output.name}\n{source}"
        assert summed.shape == value.shape, message
        torch.testing.assert_close(
            summed, want, rtol=tolerance, atol=tolerance, equal_nan=True, msg=message
        )


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_value_and_gradients_of_one_expression(expression, tmp_path):
    check(spec_of(f"o = {expression}"), tmp_path, "printed")


def test_shared_and_reassigned_names(tmp_path):
    text = spec_of("a = l2norm(a)\nw = exp(s) * a\nw = w + a\no = w * dot(w, b) + X[0] * X[1]")
    check(text, tmp_path, "printed")
    source = module_text(*programs(text)[1:])
    assert "w_1" in source
    assert "norm_a" in source


@pytest.mark.parametrize(
    ("expression", "bad"),
    [
        ("where(p > 1, log(p - 1), 0) * a", None),
        ("where(p > 1, sqrt(p - 1), a) * b", None),
        ("where(s > 9, 1 / (s - s), s) * a", None),
        ("where(a > 0, b, 0)", math.nan),
        ("where(a > 0, exp(b) * b + l2norm(b), a)", math.inf),
        ("where(s > 9, dot(b, a), s)", math.nan),
        ("where(s > 9, W @ b, a)", math.inf),
        ("where(s > 9, sum(outer(b, c), axis=1), a)", math.nan),
        ("where(a > 0, softmax(b), 1)", -math.inf),
    ],
)
def test_branch_not_taken_gives_exactly_zero(expression, bad, tmp_path):
    recurrence, forward, adjoint = programs(spec_of(f"o = {expression}"))
    module = imported(module_text(forward, adjoint), tmp_path, "printed")
    values = tensors_for(recurrence, 2)
    if bad is not None:
        values["b"] = torch.where(values.get("a", values["b"]) > 0, values["b"], bad)
        if "s >" in expression:
            values["b"] = torch.full_like(values["b"], bad)
    leaves = {n: x.clone().requires_grad_() for n, x in values.items()}
    expected = run(recurrence, leaves)[0]["o"]
    do = torch.ones_like(expected)
    wanted = torch.autograd.grad(expected, leaves.values(), do, allow_unused=True)
    gradients = call(module.adjoint, adjoint, {**values, "do": do})
    by_name = {o.name[1:]: g for o, g in zip(adjoint.outputs, gradients, strict=True)}
    for name, want in zip(leaves, wanted, strict=True):
        got = by_name[name]
        want = torch.zeros_like(got) if want is None else want
        if "softmax" not in expression and "l2norm" not in expression:
            assert torch.isfinite(got).all(), name
        untaken = torch.full_like(got, False, dtype=torch.bool)
        if bad is not None and name == "b":
            untaken = ~torch.isfinite(values["b"])
        assert (got[untaken] == 0).all()
        torch.testing.assert_close(
            got, want, equal_nan=True, msg=f"{name}\n{module_text(forward, adjoint)}"
        )


def test_decay_of_exactly_zero_has_finite_gradients(tmp_path):
    recurrence, forward, adjoint = programs(spec_of("o = exp(s) * M @ c"))
    module = imported(module_text(forward, adjoint), tmp_path, "printed")
    values = tensors_for(recurrence, 3)
    values["s"] = torch.full_like(values["s"], -math.inf)
    gradients = call(
        module.adjoint, adjoint, {**values, "do": torch.ones(2, 3, 2, SIZES["K"]).double()}
    )
    assert all(torch.isfinite(g).all() for g in gradients)
    assert (gradients[[o.name for o in adjoint.outputs].index("ds")] == 0).all()


KINKS = (
    *("relu(a)", "abs(a)", "sign(a)", "elu(a)", "softplus(a)", "maximum(a, b)", "minimum(a, b)"),
    *("maximum(a, 0)", "minimum(0, a)", "where(a > 0, a, 2 * b)", "where(a >= b, a, 2 * b)"),
)


@pytest.mark.parametrize("expression", KINKS)
def test_kinks_are_as_in_pytorch(expression, tmp_path):
    recurrence, forward, adjoint = programs(spec_of(f"o = {expression}"))
    module = imported(module_text(forward, adjoint), tmp_path, "printed")
    values = {n: torch.zeros_like(x) for n, x in tensors_for(recurrence, 0).items()}
    leaves = {n: x.clone().requires_grad_() for n, x in values.items()}
    expected = run(recurrence, leaves)[0]["o"]
    do = torch.ones_like(expected)
    wanted = torch.autograd.grad(expected, leaves.values(), do, allow_unused=True)
    gradients = call(module.adjoint, adjoint, {**values, "do": do})
    for got, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(got, torch.zeros_like(got) if want is None else want)


@pytest.mark.parametrize("x", [-800.0, -40.0, 0.0, 40.0, 800.0])
def test_log_sigmoid_and_softplus_are_stable(x, tmp_path):
    _, forward, adjoint = programs(spec_of("o = log(sigmoid(s)) - softplus(r)"))
    module = imported(module_text(forward, adjoint), tmp_path, "printed")
    values = {n: torch.full((1, 1, 1), x, dtype=torch.float64) for n in ("s", "r")}
    (got,) = call(module.forward, forward, values)
    exact = min(x, 0.0) - max(x, 0.0) - 2 * math.log1p(math.exp(-abs(x)))
    assert got.item() == pytest.approx(exact, rel=1e-14)
    gradients = call(module.adjoint, adjoint, {**values, "do": torch.ones(1, 1, 1).double()})
    names = [o.name for o in adjoint.outputs]
    falling, rising = 1 / (1 + math.exp(min(x, 700))), 1 / (1 + math.exp(min(-x, 700)))
    assert gradients[names.index("ds")].item() == pytest.approx(falling, rel=1e-12, abs=1e-300)
    assert gradients[names.index("dr")].item() == pytest.approx(-rising, rel=1e-12, abs=1e-300)


VECTORS = st.sampled_from(["a", "b", "p", "u", "X[0]", "X[1]"])
SCALARS = st.sampled_from(["s", "r", "h", "0.5", "scale", "d[1]", "z"])
MATRICES = st.sampled_from(["M", "N", "D"])


def _expressions(vectors, scalars, matrices):
    pairs = st.tuples(vectors, vectors)
    return st.one_of(
        vectors,
        pairs.map("({0[0]} + {0[1]})".format),
        pairs.map("({0[0]} - {0[1]})".format),
        pairs.map("({0[0]} * {0[1]})".format),
        pairs.map("{0[0]} / (1 + {0[1]} * {0[1]})".format),
        pairs.map("where({0[0]} > {0[1]}, {0[0]}, {0[1]} * 2)".format),
        pairs.map("maximum({0[0]}, {0[1]})".format),
        st.tuples(scalars, vectors).map("({0[0]} * {0[1]})".format),
        st.tuples(matrices, vectors).map("{0[0]} @ ({0[0]}.T @ {0[1]})".format),
        st.tuples(scalars, matrices).map("sum({0[0]} * {0[1]}, axis=1)".format),
        st.tuples(vectors, matrices).map("mean({0[0]}[:, None] - {0[1]}, axis=1)".format),
        pairs.map("dot({0[0]}, {0[1]}) * a".format),
        pairs.map("outer({0[0]}, {0[1]}) @ b".format),
        vectors.map("tanh({})".format),
        vectors.map("sigmoid({})".format),
        vectors.map("l2norm({})".format),
        vectors.map("softmax({})".format),
        vectors.map("-{}".format),
        vectors.map("cumsum({})".format),
        vectors.map("log(sigmoid({}))".format),
    )


TREES = st.recursive(VECTORS, lambda inner: _expressions(inner, SCALARS, MATRICES), max_leaves=8)


@settings(max_examples=60)
@given(tree=TREES, tail=TREES)
def test_random_expressions(tree, tail, tmp_path_factory):
    text = spec_of(f"w = {tree}\no = w * ({tail}) + w + 0 * a")
    if len(tree) + len(tail) < 400:
        check(text, tmp_path_factory.mktemp("random"), "printed", tolerance=1e-9)
