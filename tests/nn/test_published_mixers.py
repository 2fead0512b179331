"""Mixers beside those of transformers, with the same weights; and what is published of starts."""

import importlib

import pytest
import torch
from mixers import WIDTH, assert_near, drawn, shaken, small

from lincodegen.loading import load_shipped
from lincodegen.nn import mixer

LINEAR_HEADS = {"width": WIDTH, "heads": 2, "layers": 2}


def theirs(folder, config, module, **settings):
    code = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    made = importlib.import_module(f"transformers.models.{folder}")
    common = {"hidden_size": WIDTH, "num_hidden_layers": 2, "vocab_size": 8}
    torch.manual_seed(0)
    return getattr(code, module)(getattr(made, config)(**common | settings), 0).eval()


def weights(part, *names):
    """Rows of projections, one below the other."""
    return torch.cat([part.streams[name].full.weight for name in names])


def taps(part, *names, which="weight"):
    return torch.cat([getattr(part.streams[name].convolution.taps, which) for name in names])


def put(module, values):
    with torch.no_grad():
        for name, value in values.items():
            target = module.get_parameter(name)
            target.copy_(value.reshape(target.shape))


@torch.no_grad()
def test_gated_delta_rule_is_that_of_transformers():
    part = shaken(mixer("gated_delta_rule", **LINEAR_HEADS, K=6, V=10))
    other = theirs(
        "olmo_hybrid",
        "OlmoHybridConfig",
        "OlmoHybridGatedDeltaNet",
        num_attention_heads=2,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=6,
        linear_value_head_dim=10,
        linear_allow_neg_eigval=False,
        layer_types=["linear_attention", "full_attention"],
    )
    names = {"q": "q", "k": "k", "v": "v", "g": "a", "beta": "b", "gate": "g"}
    values = {f"{new}_proj.weight": weights(part, own) for own, new in names.items()}
    values |= {"conv1d.weight": taps(part, "q", "k", "v"), "A_log": part.learned["A_log"]}
    values |= {"dt_bias": part.streams["g"].bias, "o_norm.weight": part.norm.weight}
    put(other, values | {"o_proj.weight": part.out.weight})
    x = drawn(2, 70, WIDTH)
    assert_near(part(x), other(x))


@torch.no_grad()
def test_kda_is_that_of_transformers():
    part = shaken(mixer("kda", **LINEAR_HEADS, K=8, V=8))
    other = theirs(
        "kimi_linear",
        "KimiLinearConfig",
        "KimiLinearDeltaAttention",
        linear_num_heads=2,
        linear_head_dim=8,
        rms_norm_eps=1e-5,
        layer_types=["linear_attention", "full_attention"],
    )
    values = {f"{name}_proj.weight": weights(part, name) for name in "qkv"}
    values |= {"b_proj.weight": weights(part, "beta"), "conv1d.weight": taps(part, "q", "k", "v")}
    values |= {
        "g_a_proj.weight": part.streams["gate"].low.weight,
        "g_b_proj.weight": weights(part, "gate"),
        "forget_gate.A_log": part.learned["A_log"],
        "forget_gate.dt_bias": part.streams["g"].bias,
        "o_norm.weight": part.norm.weight,
        "o_proj.weight": part.out.weight,
    }
    first, second = (n for n, x in other.forget_gate.named_parameters() if x.dim() == 2)
    values[f"forget_gate.{first}"] = part.streams["g"].low.weight
    values[f"forget_gate.{second}"] = weights(part, "g")
    put(other, values)
    x = drawn(2, 70, WIDTH)
    assert_near(part(x), other(x))


@torch.no_grad()
def test_mamba2_is_that_of_transformers():
    part = shaken(mixer("mamba2", width=WIDTH, heads=4, layers=2, K=6))
    other = theirs(
        "mamba2",
        "Mamba2Config",
        "Mamba2Mixer",
        num_heads=4,
        head_dim=2 * WIDTH // 4,
        state_size=6,
        n_groups=1,
        chunk_size=16,
    )
    values = {"in_proj.weight": weights(part, "gate", "x", "B", "C", "dt")}
    values |= {f"conv1d.{w}": taps(part, "x", "B", "C", which=w) for w in ("weight", "bias")}
    values |= {"dt_bias": part.streams["dt"].bias, "norm.weight": part.norm.weight}
    values |= {name: part.learned[name] for name in ("A_log", "D")}
    put(other, values | {"out_proj.weight": part.out.weight})
    x = drawn(2, 70, WIDTH)
    assert_near(part(x), other(x))


def arguments_of(name, monkeypatch, layer=0, layers=1, **sizes):
    """What the op gets for a hidden state of 0 at the published start, by name."""
    torch.manual_seed(0)
    part = mixer(name, width=256, heads=16, layer=layer, layers=layers, **sizes)
    op, seen = load_shipped(name), {}

    def kept(*args, **options):
        given = (*op.signature.inputs, *op.signature.parameters)
        required = [x.name for x in given if not x.optional]
        seen.update(zip(required, args, strict=True))
        seen.update(options)
        return op(*args, **options)

    kept.signature, kept.step = op.signature, op.step
    monkeypatch.setattr(part, "op", kept)
    with torch.no_grad():
        part(torch.zeros(1, 1, 256))
    return seen


def spread(x):
    return x.min().item(), x.max().item()


def test_steps_and_rates_of_mamba2(monkeypatch):
    seen = arguments_of("mamba2", monkeypatch)
    low, high = spread(seen["dt"])
    assert 0.99e-3 <= low < 5e-3 < 3e-2 < high <= 1.01e-1
    low, high = spread(seen["A"])
    assert -16 <= low < -10 < -4 < high <= -1
    assert seen["D"].eq(1).all()


@pytest.mark.parametrize(("name", "least"), [("gated_delta_rule", 0), ("kda", 1)])
def test_decays_of_delta_rules(monkeypatch, name, least):
    seen = arguments_of(name, monkeypatch)
    low, high = spread(seen["g"])
    assert -1.6 <= low < -0.1 < -2e-2 < high <= -1e-3 * least
    torch.testing.assert_close(seen["beta"], torch.full((1, 1, 16), 0.5))


def test_betas_reach_2():
    for name in ("delta_rule_negative", "delta_product", "gated_delta_product"):
        beta = small(name).streams["beta"].stream.activation
        assert beta(torch.tensor([-99.0, 0.0, 99.0])).tolist() == [0, 1, 2]


def test_gates_of_gla_and_gsa(monkeypatch):
    for name, normaliser in (("gla", 16), ("gsa", 8)):
        seen = arguments_of(name, monkeypatch)
        expected = torch.tensor(0.5).log() / normaliser
        torch.testing.assert_close(seen["g"], expected.expand_as(seen["g"]))
    torch.testing.assert_close(seen["s"], 1 - seen["g"].exp())
    assert mixer("gla", width=64, heads=2).streams["g"].low.weight.shape == (16, 64)


def test_bounds_of_hgrn2_rise_with_depth(monkeypatch):
    found = []
    for layer in range(4):
        forget = arguments_of("hgrn2", monkeypatch, layer, 4)["g"].exp()
        assert forget.max() - forget.min() < 1e-6
        found.append(forget.mean().item())
    # sigmoid(0) = 1/2 above bounds of 0, 1/4, 1/2, 3/4
    assert found == pytest.approx([0.5, 0.625, 0.75, 0.875])


def test_fixed_decays_depend_on_the_layer(monkeypatch):
    seen = arguments_of("lightning_attention", monkeypatch, 2, 5)
    assert (seen["layer_idx"], seen["num_layers"], seen["scale"]) == (2, 5, 1)
    bound = (6 / (256 + 256)) ** 0.5 * 2**-2.5
    weight = mixer("retention", width=256, heads=16).streams["q"].full.weight
    assert 0.95 * bound < weight.abs().max() <= bound


def test_decays_of_rwkv(monkeypatch):
    for layer, layers in ((0, 3), (2, 3)):
        w = arguments_of("rwkv6", monkeypatch, layer, layers)["w"].flatten()
        assert w[0].item() == pytest.approx(-(torch.tensor(-6.0).exp().item()))
        assert w[-1].item() == pytest.approx(-(torch.tensor(-1.0).exp().item()))
        assert (w.diff() < 0).all()
        w = arguments_of("rwkv7", monkeypatch, layer, layers)["w"]
        low, high = spread(w)
        assert -0.6066 < low < -0.5 < -0.002 < high < 0


def test_shifts_and_outputs_of_rwkv():
    for name in ("rwkv6", "rwkv7"):
        first, last = (mixer(name, width=64, heads=2, layer=i, layers=4) for i in (0, 3))
        assert first.out.weight.eq(0).all()
        assert first.norm.weight.eq(0.25**0.7).all()
        assert last.norm.weight.eq(1).all()
        for part in (first, last):
            mix = part.shift.mix["k"]
            assert mix[0] == 1
            assert (mix.diff() < 0).all()
    value = mixer("rwkv6", width=64, heads=2, layer=3, layers=4).shift.mix["v"]
    assert value[0].item() == pytest.approx(0.7)
