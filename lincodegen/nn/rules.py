"""The mixers of the shipped rules: what their papers and reference models say, one entry each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional, init

from lincodegen.nn import starts
from lincodegen.nn.outputs import (
    GroupNorm,
    full_norm,
    gated_normed,
    no_norm,
    normed_gated,
    own_write_gated,
    silu_normed,
    weightless_head_norm,
)
from lincodegen.nn.rule import Layer, Rule, Stream, Tensors

silu = functional.silu


def positive(x: Tensor) -> Tensor:
    """elu(x) + 1."""
    return functional.elu(x) + 1


def unit(x: Tensor) -> Tensor:
    """x / |x|, as published with 1e-6 under the root: |x| is at most 1, and 0 stays 0."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def unit_silu(x: Tensor) -> Tensor:
    """silu(x) / |silu(x)|."""
    return unit(silu(x))


def doubled_sigmoid(x: Tensor) -> Tensor:
    """In [0, 2]."""
    return 2 * torch.sigmoid(x)


def log_gate(normaliser: float) -> Stream:
    """log(sigmoid(x)) / normaliser of every channel: the greater, the slower the decay."""
    return Stream(lambda x: functional.logsigmoid(x) / normaliser, precise=True)


def rated(tensors: Tensors, _: Layer) -> Tensors:
    """g = -exp(A_log) softplus(...): the log decay from a rate a head and a step a token."""
    return {**tensors, "g": -tensors["A_log"].exp() * tensors["g"]}


def wide_heads(head: int) -> Mapping[str, int]:
    """3/4 of the width for keys, 3/2 for values."""
    return {"K": 3 * head // 4, "V": 3 * head // 2}


LINEAR_ATTENTION = Rule(
    streams={"q": Stream(positive), "k": Stream(positive), "v": Stream()},
)
"""Katharopoulos et al. 2020, arXiv:2006.16236; a norm in the denominator's place, as Qin et al.
2022, arXiv:2210.10340, found to train better."""

LINEAR_ATTENTION_NORMALIZED = replace(LINEAR_ATTENTION, norm=no_norm)
"""Katharopoulos et al. 2020, arXiv:2006.16236, with the denominator."""

RETENTION = Rule(
    streams={
        **{name: Stream(weight=starts.xavier) for name in "qkv"},
        "gate": Stream(silu, shape=("V",), weight=starts.xavier),
    },
    rotary=("q", "k"),
    output=normed_gated,
    norm=weightless_head_norm,
    sizes=lambda head: {"K": head, "V": 2 * head},
    out=init.xavier_uniform_,
)
"""RetNet: Sun et al. 2023, arXiv:2307.08621; decays fixed at 1 - 2^(-5 - h)."""

LIGHTNING_ATTENTION = Rule(
    streams={
        **{name: Stream(silu) for name in "qkv"},
        "gate": Stream(torch.sigmoid, shape=("V",)),
    },
    output=normed_gated,
    norm=full_norm,
    constants=lambda layer: {
        "layer_idx": float(layer.index),
        "num_layers": float(layer.count),
        "scale": 1.0,
    },
)
"""Lightning Attention-2: Qin et al. 2024, arXiv:2401.04658; decays fixed, weaker with depth."""


def negative_rate(tensors: Tensors, _: Layer) -> Tensors:
    """A = -exp(A_log)."""
    return {**tensors, "A": -tensors["A_log"].exp()}


MAMBA2 = Rule(
    streams={
        "x": Stream(silu, convolved=True),
        "dt": Stream(functional.softplus, bias=starts.steps, precise=True),
        "B": Stream(silu, convolved=True, heads=1),
        "C": Stream(silu, convolved=True, heads=1),
        "gate": Stream(silu, shape=("V",)),
    },
    learned={"A_log": starts.log_rates(1, 16), "D": starts.ones},
    arguments=negative_rate,
    output=gated_normed,
    norm=full_norm,
    sizes=lambda head: {"K": 128, "V": 2 * head},
    window_bias=True,
)
"""Mamba-2: Dao and Gu 2024, arXiv:2405.21060; rates uniform in [1, 16], step sizes log-uniform
in [0.001, 0.1], one group of B and C."""

GLA = Rule(
    streams={
        **{name: Stream(weight=starts.xavier) for name in "qkv"},
        "g": replace(log_gate(16), rank=lambda _: 16, bias=starts.zeros, weight=starts.xavier),
        "gate": Stream(silu, shape=("V",), weight=starts.xavier),
    },
    output=normed_gated,
    sizes=lambda head: {"K": head // 2, "V": head},
    out=starts.xavier,
)
"""Yang et al. 2023, arXiv:2312.06635: gates of rank 16, log(sigmoid) / 16."""


def bounded_gates(tensors: Tensors, layer: Layer) -> Tensors:
    """g = log(bound + (1 - bound) sigmoid(f)); bounds rise from 0 in the first layer."""
    log_gate = functional.logsigmoid(tensors["g"])
    if layer.index:
        shares = tensors["bounds"].softmax(0)
        bound = shares[1 : layer.index + 1].sum(0)
        log_gate = torch.logaddexp(bound.log(), torch.log1p(-bound) + log_gate)
    return {**tensors, "g": log_gate}


HGRN2 = Rule(
    streams={"q": Stream(silu), "v": Stream(), "g": Stream(precise=True)},
    learned={"bounds": starts.shared_bounds},
    arguments=bounded_gates,
    norm=full_norm,
    shared=("bounds",),
)
"""Qin et al. 2024, arXiv:2404.07904: forget gates above a bound, learned for all layers at
once."""

RWKV6 = Rule(
    streams={
        "r": Stream(weight=init.orthogonal_),
        "k": Stream(weight=starts.orthogonal_tenth),
        "v": Stream(weight=init.orthogonal_),
        "w": Stream(
            lambda x: -x.exp(),
            rank=lambda _: 64,
            between=torch.tanh,
            bias=starts.finch_decays,
            precise=True,
            weight=starts.uniform_hundredth,
            first=init.zeros_,
        ),
        "gate": Stream(silu, shape=("V",), weight=starts.orthogonal_tenth),
    },
    learned={"u": starts.finch_bonus},
    output=normed_gated,
    norm=GroupNorm,
    constants=lambda _: {"scale": 1.0},
    shift={"r": (0.5, 0.0), "k": (1.0, 0.0), "v": (1.0, 0.3), "w": (1.0, 0.0), "gate": (0.5, 0.0)},
    shift_rank=32,
    out=init.zeros_,
)
"""RWKV-6, Finch: Peng et al. 2024, arXiv:2404.05892; starts are those of the authors' code."""


def low_rank(factor: float, per_head: bool = True) -> Callable[[Layer], int]:
    """Channels of RWKV-7's low ranks: a multiple of 32 near factor sqrt(width) K / 64."""

    def rank(layer: Layer) -> int:
        head = layer.sizes["K"] / 64 if per_head else 1
        return max(32, round(factor * math.sqrt(layer.width) * head / 32) * 32)

    return rank


def removal_and_replacement(tensors: Tensors, _: Layer) -> Tensors:
    """a = -kappa, b = rate kappa with kappa the unit removal key, and the key of the write."""
    rate, key = tensors["rate"], tensors["k"]
    kappa = functional.normalize(key * tensors["removal"], dim=-1)
    written = key * (1 + (rate - 1) * tensors["mixed"])
    return {**tensors, "k": written, "a": -kappa, "b": rate * kappa}


RWKV7 = Rule(
    streams={
        "r": Stream(weight=init.orthogonal_),
        "k": Stream(weight=starts.orthogonal_tenth),
        "v": Stream(weight=init.orthogonal_),
        "w": Stream(
            lambda x: -math.exp(-0.5) * torch.sigmoid(x),
            rank=low_rank(2.5),
            between=torch.tanh,
            bias=starts.goose_decays,
            precise=True,
            weight=starts.small_orthogonal,
            first=init.zeros_,
        ),
        "rate": Stream(
            torch.sigmoid,
            rank=low_rank(2.5),
            bias=starts.goose_rates,
            shape=("K",),
            weight=starts.small_orthogonal,
            first=init.zeros_,
        ),
        "gate": Stream(
            rank=low_rank(5, per_head=False),
            between=torch.sigmoid,
            shape=("V",),
            weight=starts.small_orthogonal,
            first=init.zeros_,
        ),
    },
    learned={
        "removal": starts.goose_removal,
        "mixed": starts.constant(1.02),
        "bonus": starts.constant(-0.04),
    },
    arguments=removal_and_replacement,
    output=own_write_gated,
    norm=GroupNorm,
    shift={
        **dict.fromkeys(("r", "gate"), (0.2, 0.0)),
        **dict.fromkeys(("k", "v"), (0.7, 0.0)),
        **dict.fromkeys(("w", "rate"), (0.9, 0.0)),
    },
    out=init.zeros_,
)
"""RWKV-7, Goose: Peng et al. 2025, arXiv:2503.14456; starts are those of the authors' code.

The mixture of a layer's values with those of the first layer is left out: it crosses layers."""

DELTA_RULE = Rule(
    streams={
        "q": Stream(unit_silu, convolved=True),
        "k": Stream(unit_silu, convolved=True),
        "v": Stream(silu, convolved=True),
        "beta": Stream(torch.sigmoid),
    },
)
"""DeltaNet: Yang et al. 2024, arXiv:2406.06484."""

DELTA_RULE_NEGATIVE = replace(
    DELTA_RULE, streams={**DELTA_RULE.streams, "beta": Stream(doubled_sigmoid)}
)
"""DeltaNet with beta in [0, 2]: Grazzi et al. 2024, arXiv:2411.12537."""

GATED_DELTA_RULE = Rule(
    streams={
        **DELTA_RULE.streams,
        "g": Stream(functional.softplus, bias=starts.steps, precise=True),
        "gate": Stream(silu, shape=("V",)),
    },
    learned={"A_log": starts.log_rates(0, 16)},
    arguments=rated,
    output=normed_gated,
    sizes=wide_heads,
)
"""Gated DeltaNet: Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464; decays as Mamba-2 has them,
rates uniform in [0, 16]."""

KDA = Rule(
    streams={
        **DELTA_RULE.streams,
        "g": Stream(
            functional.softplus,
            rank=lambda layer: layer.sizes["V"],
            bias=starts.channel_steps,
            precise=True,
        ),
        "gate": Stream(torch.sigmoid, rank=lambda layer: layer.sizes["V"], shape=("V",)),
    },
    learned={"A_log": starts.log_rates(1, 16, 1)},
    arguments=rated,
    output=normed_gated,
)
"""Kimi delta attention: Kimi Team 2025, arXiv:2510.26692; a step a channel, a rate a head."""

DELTA_PRODUCT = replace(
    DELTA_RULE_NEGATIVE,
    streams={**DELTA_RULE_NEGATIVE.streams, "gate": Stream(silu, shape=("V",))},
    output=normed_gated,
    sizes=wide_heads,
)
"""DeltaProduct: Siems et al. 2025, arXiv:2502.10297; every factor has its key, value and beta."""

GATED_DELTA_PRODUCT = replace(
    GATED_DELTA_RULE,
    streams={
        **GATED_DELTA_RULE.streams,
        "k": Stream(silu, convolved=True),  # the op normalises it
        "beta": Stream(doubled_sigmoid),
    },
)
"""Gated DeltaProduct: Siems et al. 2025, arXiv:2502.10297."""


def normalised_by_the_op(rule: Rule) -> Rule:
    """The same mixer for an op that divides q and k by their norms itself."""
    plain = {name: Stream(silu, convolved=True) for name in "qk"}
    return replace(rule, streams={**rule.streams, **plain})


def slot_weights(tensors: Tensors, _: Layer) -> Tensors:
    """s = 1 - exp(g): a slot takes in what its decay leaves free."""
    return {**tensors, "s": -torch.expm1(tensors["g"])}


GSA = Rule(
    streams={**{name: Stream(silu) for name in "qkv"}, "g": log_gate(8)},
    arguments=slot_weights,
    output=silu_normed,
    norm=full_norm,
    constants=lambda _: {"scale": 1.0},
    sizes=lambda head: {"K": head, "V": head, "M": head},
)
"""Gated slot attention: Zhang et al. 2024, arXiv:2409.07146; log(sigmoid) / 8."""

RULES: Mapping[str, Rule] = {
    "delta_product": DELTA_PRODUCT,
    "delta_rule": DELTA_RULE,
    "delta_rule_negative": DELTA_RULE_NEGATIVE,
    "gated_delta_product": GATED_DELTA_PRODUCT,
    "gated_delta_rule": GATED_DELTA_RULE,
    "gated_delta_rule_qk_l2norm": normalised_by_the_op(GATED_DELTA_RULE),
    "gla": GLA,
    "gsa": GSA,
    "hgrn2": HGRN2,
    "kda": KDA,
    "kda_qk_l2norm": normalised_by_the_op(KDA),
    "lightning_attention": LIGHTNING_ATTENTION,
    "linear_attention": LINEAR_ATTENTION,
    "linear_attention_normalized": LINEAR_ATTENTION_NORMALIZED,
    "mamba2": MAMBA2,
    "retention": RETENTION,
    "rwkv6": RWKV6,
    "rwkv7": RWKV7,
}
"""The mixer of every shipped op that has a published one, under the op's name."""
