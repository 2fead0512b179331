"""The shipped specs: their calls, their size, and their recurrences against token loops.

The loops are written from the papers, not from the specs. Arguments and results are those of
flash-linear-attention where that library has the op.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from lincodegen.resources import generated_dir, specs_dir, templates_dir
from lincodegen.spec import load
from lincodegen.spec.schema import schema
from lincodegen.verify.reference import run

PATHS = {path.stem: path for path in sorted(specs_dir().glob("*.yaml"))}
ROOT = Path(__file__).resolve().parents[2]

# arguments without default, those with one, float constants, names of the state
CALLS = {
    "linear_attention": ("q k v", "", "scale", "S"),
    "linear_attention_normalized": ("q k v", "", "scale eps", "S z"),
    "retention": ("q k v", "g", "scale", "S"),
    "lightning_attention": ("q k v", "g", "layer_idx num_layers scale", "S"),
    "mamba2": ("x dt B C A", "D", "", "S"),
    "gla": ("q k v g", "", "scale", "S"),
    "hgrn2": ("q v g", "", "scale", "S"),
    "rwkv6": ("r k v w u", "", "scale", "S"),
    "delta_rule": ("q k v beta", "", "scale", "S"),
    "delta_rule_negative": ("q k v beta", "", "scale", "S"),
    "gated_delta_rule": ("q k v g beta", "", "scale", "S"),
    "gated_delta_rule_qk_l2norm": ("q k v g beta", "", "scale", "S"),
    "kda": ("q k v g beta", "", "scale", "S"),
    "kda_qk_l2norm": ("q k v g beta", "", "scale", "S"),
    "delta_product": ("q k v beta", "", "scale", "S"),
    "gated_delta_product": ("q k v g beta", "", "scale", "S"),
    "rwkv7": ("r w k v a b", "", "scale", "S"),
    "dplr": ("q k v a b gk", "", "scale", "S"),
    "gsa": ("q k v s g", "", "scale", "Sk Sv"),
}

K, V, M, T, H = 5, 3, 4, 7, 2
SIZES = {"K": K, "V": V, "M": M}


def test_every_spec_is_listed():
    assert set(CALLS) <= set(PATHS)


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    recurrence = load(PATHS[name])
    tensors = (*recurrence.inputs, *recurrence.parameters)
    required = [tensor.name for tensor in tensors if tensor.default is None]
    optional = [tensor.name for tensor in tensors if tensor.default is not None]
    constants = [constant.name for constant in recurrence.constants]
    states = [state.name for state in recurrence.states]
    found = tuple(" ".join(names) for names in (required, optional, constants, states))
    assert found == CALLS[name]
    assert recurrence.name == name
    assert re.search(r"arXiv:\d{4}\.\d{5}", recurrence.reference)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_size_and_time(path):
    """A newcomer reads these first: short, and loaded within 0.2 s."""
    assert 10 <= len(path.read_text().splitlines()) <= 40
    load(path)
    start = time.perf_counter()
    load(path)
    assert time.perf_counter() - start < 0.2


@pytest.mark.parametrize("name", CALLS)
def test_decays_never_grow(name):
    """Log decays promise to be at most 0."""
    recurrence = load(PATHS[name])
    tensors = {tensor.name: tensor for tensor in (*recurrence.inputs, *recurrence.parameters)}
    for decay in {"g", "gk", "w", "A"} & set(tensors):
        assert tensors[decay].domain.high == 0.0


def plain(q, k, v, scale):
    S = torch.zeros(K, V)
    for t in range(T):
        S = S + torch.outer(k[t], v[t])
        yield scale * (q[t] @ S)


def decayed(q, k, v, decay, scale):
    """``decay`` [T, K] or [T, 1], applied to the rows before the write."""
    S = torch.zeros(K, V)
    for t in range(T):
        S = decay[t][:, None] * S + torch.outer(k[t], v[t])
        yield scale * (q[t] @ S)


def delta(q, k, v, beta, decay, scale):
    """The product form: (I - beta k k^T) Diag(decay) S + beta k v^T."""
    S = torch.zeros(K, V)
    for t in range(T):
        S = (torch.eye(K) - beta[t] * torch.outer(k[t], k[t])) @ torch.diag(decay[t]) @ S
        S = S + beta[t] * torch.outer(k[t], v[t])
        yield scale * (q[t] @ S)


def products(q, k, v, beta, decay, scale):
    """n factors a token, the first one rightmost; the decay stands right of all."""
    S = torch.zeros(K, V)
    for t in range(T):
        A, B = decay[t] * torch.eye(K), torch.zeros(K, V)
        for j in range(2):
            factor = torch.eye(K) - beta[t, j] * torch.outer(k[t, j], k[t, j])
            A, B = factor @ A, factor @ B + beta[t, j] * torch.outer(k[t, j], v[t, j])
        S = A @ S + B
        yield scale * (q[t] @ S)


def sums(q, k, v, a, b, w, scale):
    """The sum form: (Diag(exp w) + b a^T) S + k v^T."""
    S = torch.zeros(K, V)
    for t in range(T):
        S = (torch.diag(w[t].exp()) + torch.outer(b[t], a[t])) @ S + torch.outer(k[t], v[t])
        yield scale * (q[t] @ S)


def normalised(x):
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def ones(*shape):
    return torch.ones(shape)


def bonus(x, scale):
    S = torch.zeros(K, V)
    for t in range(T):
        write = torch.outer(x["k"][t], x["v"][t])
        yield scale * (x["r"][t] @ (S + torch.diag(x["u"]) @ write))
        S = torch.diag(x["w"][t].exp()) @ S + write


def slots(x, scale):
    keys, values = torch.zeros(K, M), torch.zeros(M, V)
    for t in range(T):
        decay = torch.diag(x["g"][t].exp())
        keys = keys @ decay + torch.outer(x["k"][t], x["s"][t])
        values = decay @ values + torch.outer(x["s"][t], x["v"][t])
        yield torch.softmax(scale * (x["q"][t] @ keys), 0) @ values


def weighted(x, scale):
    """The quadratic form, weights that sum to 1."""
    weights = torch.tril(scale * x["q"] @ x["k"].T)
    yield from weights @ x["v"] / (weights.sum(1, keepdim=True) + 1e-10)


def skipped(x):
    S = torch.zeros(K, V)
    for t in range(T):
        S = torch.exp(x["dt"][t] * x["A"]) * S
        S = S + x["dt"][t] * torch.outer(x["B"][t], x["x"][t])
        yield x["C"][t] @ S + x["D"] * x["x"][t]


def per_channel(g):
    return g.exp()[:, None] * ones(K)


ROOT_K = K**-0.5
GAMMA = [1 - 2.0 ** (-5 - h) for h in range(H)]
LOOPS = {
    "linear_attention": lambda x, h: plain(x["q"], x["k"], x["v"], ROOT_K),
    "linear_attention_normalized": lambda x, h: weighted(x, ROOT_K),
    "retention": lambda x, h: decayed(x["q"], x["k"], x["v"], GAMMA[h] * ones(T, K), ROOT_K),
    "lightning_attention": lambda x, h: decayed(
        x["q"], x["k"], x["v"], torch.exp(torch.tensor(-8 / H * h)) * ones(T, K), ROOT_K
    ),
    "mamba2": lambda x, h: skipped(x),
    "gla": lambda x, h: decayed(x["q"], x["k"], x["v"], x["g"].exp(), ROOT_K),
    "hgrn2": lambda x, h: decayed(x["q"], 1 - x["g"].exp(), x["v"], x["g"].exp(), ROOT_K),
    "rwkv6": lambda x, h: bonus(x, ROOT_K),
    "delta_rule": lambda x, h: delta(x["q"], x["k"], x["v"], x["beta"], ones(T, K), ROOT_K),
    "gated_delta_rule": lambda x, h: delta(
        x["q"], x["k"], x["v"], x["beta"], per_channel(x["g"]), ROOT_K
    ),
    "gated_delta_rule_qk_l2norm": lambda x, h: delta(
        normalised(x["q"]), normalised(x["k"]), x["v"], x["beta"], per_channel(x["g"]), ROOT_K
    ),
    "kda": lambda x, h: delta(x["q"], x["k"], x["v"], x["beta"], x["g"].exp(), ROOT_K),
    "kda_qk_l2norm": lambda x, h: delta(
        normalised(x["q"]), normalised(x["k"]), x["v"], x["beta"], x["g"].exp(), ROOT_K
    ),
    "delta_product": lambda x, h: products(x["q"], x["k"], x["v"], x["beta"], ones(T), ROOT_K),
    "gated_delta_product": lambda x, h: products(
        x["q"], normalised(x["k"]), x["v"], x["beta"], x["g"].exp(), ROOT_K
    ),
    "rwkv7": lambda x, h: sums(x["r"], x["k"], x["v"], x["a"], x["b"], x["w"], 1.0),
    "dplr": lambda x, h: sums(x["q"], x["k"], x["v"], x["a"], x["b"], x["gk"], ROOT_K),
    "gsa": lambda x, h: slots(x, ROOT_K),
}
LOOPS["delta_rule_negative"] = LOOPS["delta_rule"]


def draw(tensor, generator, axes):
    """Values inside of a tensor's domain, of norm 1 where a norm is promised."""
    shape = (*axes, *(size.evaluate(SIZES) for size in tensor.shape))
    x = torch.randn(shape, generator=generator)
    low, high = max(tensor.domain.low, -2.0), min(tensor.domain.high, 2.0)
    if (low, high) != (-2.0, 2.0):
        x = low + (high - low) * torch.rand(shape, generator=generator)
    return x if tensor.norm is None else torch.nn.functional.normalize(x, dim=-1)


@pytest.mark.parametrize("name", CALLS)
def test_recurrences_against_token_loops(name):
    recurrence = load(PATHS[name])
    generator = torch.Generator().manual_seed(len(name))
    torch.set_default_dtype(torch.float64)
    try:
        given = {x.name: draw(x, generator, (1, T, H)) for x in recurrence.inputs}
        given |= {
            x.name: draw(x, generator, (H,))
            for x in recurrence.parameters
            if x.default is None or x.name == "D"
        }
        outputs, _ = run(recurrence, given)
        inputs = {x.name for x in recurrence.inputs}
        for head in range(H):
            of_head = {n: x[0, :, head] if n in inputs else x[head] for n, x in given.items()}
            expected = torch.stack(list(LOOPS[name](of_head, head)))
            torch.testing.assert_close(outputs["o"][0, :, head], expected, rtol=1e-12, atol=1e-12)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["delta_product", "gated_delta_product"])
@pytest.mark.parametrize("n", [1, 3])
def test_number_of_factors(name, n):
    recurrence = load(PATHS[name], sets={"n": n})
    writes = [statement for statement in recurrence.step if statement.state]
    assert len(writes) == n + (name == "gated_delta_product")
    assert recurrence.inputs[1].shape[0].constant == n


def accepts(rule, data):
    """Whether data obey a schema, for the words that ours uses; an unknown word fails."""
    tests = {
        "type": lambda kinds: any(
            isinstance(data, {"object": dict, "array": list, "string": str}.get(kind, (int, float)))
            for kind in ([kinds] if isinstance(kinds, str) else kinds)
        ),
        "properties": lambda of: all(accepts(of[key], data[key]) for key in of if key in data),
        "required": lambda keys: all(key in data for key in keys),
        "additionalProperties": lambda of: all(
            of is not False and accepts(of, value)
            for key, value in data.items()
            if key not in rule.get("properties", {})
        ),
        "propertyNames": lambda of: all(accepts(of, key) for key in data),
        "items": lambda of: all(accepts(of, item) for item in data),
        "pattern": lambda pattern: re.search(pattern, data) is not None,
        "minProperties": lambda least: len(data) >= least,
        "minItems": lambda least: len(data) >= least,
        "minLength": lambda least: len(data) >= least,
    }
    words = rule.keys() - {"$schema", "title", "description"}
    ordered = sorted(words, key=lambda word: word != "type")
    return all(tests[word](rule[word]) for word in ordered)


def test_schema_file_is_the_schema():
    file = ROOT / "schema" / "lincodegen.schema.json"
    assert json.loads(file.read_text()) == schema()


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_schema_accepts_the_shipped_specs(path):
    assert accepts(schema(), YAML(typ="safe", pure=True).load(path.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Rule"},
        {"colour": "red"},
        {"inputs": {}},
        {"inputs": {"q": {"shape": "K"}}},
        {"inputs": {"q": {"shape": ["K"], "domian": "[0, 1]"}}},
        {"inputs": {"q": {}}},
        {"inputs": {"a-b": {"shape": []}}},
        {"state": {"S": {"shape": ["K"], "init": 0}}},
        {"outputs": []},
        {"step": ""},
    ],
)
def test_schema_refuses(change):
    good = {"name": "a", "inputs": {"q": {"shape": ["K"]}}, "step": "o = q"}
    assert accepts(schema(), good)
    assert not accepts(schema(), {**good, **change})


def test_resources_of_a_checkout(monkeypatch, tmp_path):
    """Folders inside of an installed package win over those beside it."""
    assert specs_dir() == ROOT / "specs"
    assert (templates_dir().name, generated_dir().name) == ("templates", "generated")
    monkeypatch.setattr("lincodegen.resources._PACKAGE", tmp_path / "lincodegen")
    assert specs_dir() == tmp_path / "specs"
    (tmp_path / "lincodegen" / "_data" / "specs").mkdir(parents=True)
    (tmp_path / "lincodegen" / "generated").mkdir()
    assert specs_dir() == tmp_path / "lincodegen" / "_data" / "specs"
    assert generated_dir() == tmp_path / "lincodegen" / "generated"
