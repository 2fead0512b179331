"""Intervals hold every value that a state-free expression can take."""

import math

import pytest
import torch

from lincodegen.derive.intervals import enclose, log_of
from lincodegen.spec.loader import load
from lincodegen.verify.functions import Arithmetic, apply
from tests.property.chunk_op import SafeLog
from tests.property.unseen_specs import spec

EXPRESSIONS = (
    "exp(g)", "exp(g) * exp(h)", "sigmoid(raw)", "softplus(raw)", "-softplus(raw)", "tanh(raw)",
    "relu(raw)", "1 - keep", "1 - 0.5 * keep", "raw * raw", "keep * raw", "wide - 1",
    "(wide - 1) * (wide - 1)", "1 / (1 + keep)", "-1 / (0.5 + keep)", "keep / (1 + exp(raw))",
    "maximum(raw, 0)", "minimum(raw, keep)", "where(raw > 0, keep, wide)", "abs(raw - 3)",
    "abs(1 + keep)", "2 ** minimum(raw, 0)", "0.5 ** relu(raw)", "raw ** 2", "soft ** -2",
    "keep ** 3", "sqrt(wide)", "rsqrt(1 + keep)", "log(1 + keep)", "log1p(keep)", "log(soft)",
    "sum(softmax(d)) * 0 + softmax(d)[0]", "l2norm(d)[0]", "k[0]", "concat(k, a)[0]",
    "exp(-exp(raw) * softplus(raw))", "sigmoid(raw) ** 0.5",
)  # fmt: skip


def found(expression):
    """The recurrence, the expression's node, and its values at many drawn inputs."""
    text = spec(
        "probe", f"x = {expression}\nS = 0.5 * S + x\no = S + q[0]", state="{S: {shape: []}}"
    )
    recurrence = load(text)
    node = recurrence.step[0].value
    torch.manual_seed(0)
    leaves = {x.name: _draw(x) for x in recurrence.inputs}
    return recurrence, node, leaves


def _draw(tensor, count=400):
    low, high = tensor.domain.low, tensor.domain.high
    shape = (count, 1, *(4 for _ in tensor.shape))
    x = 4 * torch.randn(shape, dtype=torch.float64)
    if math.isfinite(low) and math.isfinite(high):
        x = low + (high - low) * torch.rand(shape, dtype=torch.float64)
        x[:40], x[40:80] = low, high
    elif math.isfinite(high):
        x = high - x.abs()
        x[:40] = high
        x[40:80] = low
    if tensor.norm is not None:
        x = x / x.norm(dim=-1, keepdim=True) * tensor.norm.high
    return x


def evaluate(node, recurrence, leaves):
    match node.op:
        case "input":
            return leaves[node.attr[0]]
        case "number":
            return torch.full((1, 1), float(node.attr[0]), dtype=torch.float64)
        case "ref":
            return evaluate(recurrence.step[node.attr[0]].value, recurrence, leaves)
        case "safe_log":
            return SafeLog.apply(evaluate(node.args[0], recurrence, leaves))
    args = [evaluate(a, recurrence, leaves) for a in node.args]
    sizes = dict.fromkeys(("K", "V"), 4)
    return apply(node, args, sizes, Arithmetic(torch.zeros((), dtype=torch.float64), False))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_values_lie_in_the_interval(expression):
    recurrence, node, leaves = found(expression)
    low, high = enclose(node, recurrence)
    values = evaluate(node, recurrence, leaves)
    slack = 1e-12 * values.abs().clamp(max=1e300)
    assert bool((values >= low - slack).all())
    assert bool((values <= high + slack).all())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_logs_are_logs_and_lie_in_their_interval(expression):
    recurrence, node, leaves = found(expression)
    log = log_of(node, recurrence)
    values = evaluate(node, recurrence, leaves)
    if log is None:
        assert enclose(node, recurrence)[0] < 0
        return
    assert bool((values >= 0).all())
    logs = evaluate(log, recurrence, leaves)
    torch.testing.assert_close(torch.exp(logs), values, rtol=1e-9, atol=1e-300)
    low, high = enclose(log, recurrence)
    assert bool((logs >= low - 1e-9).all())
    assert bool((logs <= high + 1e-9).all())


@pytest.mark.parametrize(
    ("expression", "interval"),
    [
        ("exp(g)", (0, 1)),
        ("1 - 0.5 * keep", (0.5, 1)),
        ("wide - 1", (-1, 1)),
        ("(wide - 1) * (wide - 1)", (0, 1)),
        ("keep ** 3", (0, 1)),
        ("soft ** -2", (1, 2500)),
        ("1 / (1 + keep)", (0.5, 1)),
        ("k[0]", (-1, 1)),
        ("raw", (-math.inf, math.inf)),
    ],
)
def test_intervals_are_tight(expression, interval):
    recurrence, node, _ = found(expression)
    assert enclose(node, recurrence) == pytest.approx(interval)
