"""Every mixer: shapes, gradients, causality, packing, and decoding token by token."""

from itertools import pairwise

import pytest
import torch
from mixers import EVERY_RULE, HEADS, WIDTH, assert_near, drawn, small

import lincodegen
from lincodegen.loading import load_shipped
from lincodegen.nn import Cache, CausalLM, Rule, Stream, mixer

every_rule = pytest.mark.parametrize("name", EVERY_RULE)
# more than a chunk of the ops, and no multiple of one
LENGTH = 69


@every_rule
def test_outputs_and_gradients(name):
    part, x = small(name), drawn(2, 13, WIDTH).requires_grad_()
    y = part(x)
    assert y.shape == x.shape
    (y * drawn(2, 13, WIDTH, seed=3)).sum().backward()
    named = {"x": x, **dict(part.named_parameters())}
    for key, value in named.items():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        assert value.grad.abs().max() > 0, key


@every_rule
def test_no_token_sees_the_next(name):
    part, x = small(name), drawn(1, LENGTH, WIDTH)
    other = x.clone()
    other[:, 40:] = drawn(1, LENGTH - 40, WIDTH, seed=4)
    with torch.no_grad():
        y, z = part(x), part(other)
    assert_near(z[:, :40], y[:, :40])
    assert (z[:, 40] - y[:, 40]).abs().max() > 1e-3 * y.abs().max()


@every_rule
@torch.no_grad()
def test_decoding_is_the_whole_sequence(name):
    part, x, cache = small(name), drawn(2, LENGTH, WIDTH), Cache()
    pieces = [part(x[:, :1], cache), part(x[:, 1:3], cache), part(x[:, 3:-4], cache)]
    states = [value for key, value in cache.layer(1).items() if key.startswith("state")]
    pieces += [part(x[:, i : i + 1], cache) for i in range(LENGTH - 4, LENGTH)]
    assert_near(torch.cat(pieces, 1), part(x))
    after = [value for key, value in cache.layer(1).items() if key.startswith("state")]
    # written in place
    assert [x.data_ptr() for x in states] == [x.data_ptr() for x in after]


@every_rule
@torch.no_grad()
def test_packed_sequences_are_separate(name):
    part, x = small(name), drawn(1, 31, WIDTH)
    offsets = [0, 0, 2, 23, 23, 31]
    cu_seqlens, cache = torch.tensor(offsets, dtype=torch.int32), Cache()
    parts = [x[:, a:b] for a, b in pairwise(offsets)]
    assert_near(part(x, cache, cu_seqlens), torch.cat([part(piece) for piece in parts], 1))
    following = drawn(len(parts), 2, WIDTH, seed=5)
    whole = [
        part(torch.cat((piece, more[None]), 1))[:, -2:]
        for piece, more in zip(parts, following, strict=True)
    ]
    # a second packed call, then single tokens
    first = following[:, :1].reshape(1, -1, WIDTH)
    found = part(first, cache, torch.arange(len(parts) + 1))[0][:, None]
    found = torch.cat((found, part(following[:, 1:], cache)), 1)
    assert_near(found, torch.cat(whole))


@pytest.mark.parametrize("name", ["gated_delta_rule", "kda"])
@torch.no_grad()
def test_norms_inside_the_op_are_those_outside(name):
    part, other, x = small(name), small(f"{name}_qk_l2norm"), drawn(2, 13, WIDTH)
    other.load_state_dict(part.state_dict())
    assert_near(other(x), part(x))


@torch.no_grad()
def test_beams_are_reordered():
    part, x, cache = small("gated_delta_rule"), drawn(3, 9, WIDTH), Cache()
    part(x[:, :8], cache)
    kept = cache.clone()
    order = torch.tensor([2, 0, 0, 1])
    cache.reorder(order)
    assert cache.sequences == 4
    assert_near(part(x[order, 8:], cache), part(x)[order, 8:])
    assert_near(part(x[:, 8:], kept), part(x)[:, 8:])


def test_a_cache_keeps_no_graph():
    part, x, cache = small("kda"), drawn(2, 6, WIDTH), Cache()
    part(x[:, :5], cache)
    assert not any(value.requires_grad for value in cache.layer(1).values())
    y = part(x[:, 5:], cache)
    assert_near(y, part(x)[:, 5:])
    y.sum().backward()


@pytest.mark.parametrize("name", ["rwkv7", "mamba2", "gsa", "retention"])
def test_half_precision_and_autocast(name):
    x, part = drawn(2, 9, WIDTH), small(name)
    wanted = part(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = part(x)
    assert found.dtype == torch.bfloat16
    assert_near(found.float(), wanted, 0.05)
    found = part.bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert_near(found.float(), wanted, 0.1)


def test_no_tokens():
    part, x = small("gated_delta_rule"), drawn(2, 0, WIDTH)
    assert part(x).shape == x.shape


DPLR = Rule(
    streams={
        "q": Stream(),
        "k": Stream(),
        "v": Stream(convolved=True),
        "a": Stream(lambda x: torch.nn.functional.normalize(x, dim=-1)),
        "b": Stream(lambda x: -0.5 * torch.nn.functional.normalize(x, dim=-1)),
        "gk": Stream(torch.nn.functional.logsigmoid, rank=lambda _: 4, precise=True),
    },
    window=3,
)


@torch.no_grad()
def test_a_rule_of_ones_own():
    part = mixer(DPLR, width=WIDTH, heads=HEADS, op=load_shipped("dplr"), K=5, V=7)
    x, cache = drawn(2, 9, WIDTH), Cache()
    pieces = [part(x[:, :6], cache), *(part(x[:, i : i + 1], cache) for i in range(6, 9))]
    assert_near(torch.cat(pieces, 1), part(x))
    assert cache.layer(0)["state S"].shape == (2, HEADS, 5, 7)
    assert cache.layer(0)["window v"].shape == (2, 2, 7 * HEADS)


LEAKY_SPEC = """\
name: leaky_slots
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
  a: {shape: [], domain: "[-inf, 0]"}
parameters:
  D: {shape: [V]}
state: {S: {shape: [K, V]}}
step: |
  S = exp(a) * S + outer(k, v)
  o = S.T @ q + D * v
"""


@torch.no_grad()
def test_a_spec_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("LINCODEGEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "leaky_slots.yaml").write_text(LEAKY_SPEC)
    rule = Rule(
        streams={
            **{name: Stream(torch.nn.functional.silu, convolved=True) for name in "qkv"},
            "a": Stream(torch.nn.functional.logsigmoid, precise=True),
        },
        learned={"D": lambda layer: torch.ones(layer.heads, layer.sizes["V"])},
    )
    op = lincodegen.load(tmp_path / "leaky_slots.yaml")
    model = CausalLM(rule, vocabulary=9, width=WIDTH, heads=HEADS, layers=2, op=op, K=8)
    start = torch.tensor([[1, 2, 3, 4, 5]])
    cache = Cache()
    pieces = [model(start[:, :3], cache), model(start[:, 3:4], cache), model(start[:, 4:], cache)]
    assert_near(torch.cat(pieces, 1), model(start))


def made(rule="gla", **options):
    return mixer(rule, **{"width": WIDTH, "heads": HEADS} | options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: made("gated_delta"), "no rule 'gated_delta'; expected: gated_delta_"),
        (lambda: made("x"), "expected: one of delta_product, "),
        (lambda: made(heads=5), "5 heads at width 24; expected: a divisor"),
        (lambda: made(layer=2, layers=2), "layer 2; expected: one from 0 to 1"),
        (lambda: made(M=4), "mixer of gla: a size M; expected: one of K, V"),
        (lambda: made(K=0), "K = 0; expected: 1 or more"),
        (lambda: made(width=2), "no size K; expected: K=..."),
        (lambda: made(DPLR), "no op for a rule of one's own"),
        (
            lambda: made(Rule({"z": Stream()}), op=load_shipped("gla")),
            "the stream z has no shape; expected: one, or the name of an input, q, k, v, g",
        ),
        (
            lambda: made(Rule({"q": Stream()}), op=load_shipped("gla"))(drawn(1, 2, WIDTH)),
            "no stream or learned tensor k",
        ),
        (lambda: made("retention", K=3)(drawn(1, 2, WIDTH)), "K = 3; expected: an even number"),
        (lambda: made()(drawn(2, WIDTH)), r"x has the shape \[2, 24\]; expected: \[B, T, 24\]"),
        (
            lambda: made("kda")(drawn(1, 4, WIDTH), None, torch.tensor([0, 3])),
            "mixer of kda: cu_seqlens",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_cache_of_other_sequences_is_refused():
    part, cache = small("gla"), Cache()
    part(drawn(2, 3, WIDTH), cache)
    with pytest.raises(ValueError, match="3 sequences; expected: 2 as the cache holds"):
        part(drawn(3, 1, WIDTH), cache)
    with pytest.raises(NotImplementedError, match="expected: a clone"):
        cache.crop(1)
