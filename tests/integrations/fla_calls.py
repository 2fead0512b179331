"""A call of each function with flash-linear-attention's signature, and its recurrence.

``expected`` names a spec and gives its tensors from the arguments of the call, each written out
from that library's definition of the function.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

T, H, HV, K, V, M, N = 21, 2, 4, 6, 5, 3, 3

Arguments = dict[str, Any]


def draw(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def token(seed: int, *shape: int, length: int = T) -> Tensor:
    return draw(seed, 1, length, *shape)


def unit(seed: int, *shape: int, length: int = T) -> Tensor:
    return normalize(token(seed, *shape, length=length), dim=-1)


def decay(seed: int, *shape: int) -> Tensor:
    return -token(seed, *shape).abs()


def rate(seed: int, *shape: int, length: int = T) -> Tensor:
    return token(seed, *shape, length=length).sigmoid()


def l2norm(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def qkv(heads: int = H) -> Arguments:
    return {"q": token(1, H, K), "k": unit(2, H, K), "v": token(3, heads, V)}


def same(given: Arguments) -> Arguments:
    return given


def renamed(**names: str) -> Callable[[Arguments], Arguments]:
    """The arguments with those of ``own=theirs`` under the spec's name."""
    return lambda given: (
        {n: x for n, x in given.items() if n not in names.values()}
        | {own: given[theirs] for own, theirs in names.items()}
    )


@dataclass(frozen=True)
class Call:
    """Tensors of a call, its other arguments, and the spec that says what must come out.

    ``constants`` are the spec's where they are not its defaults. ``states`` are shapes of the
    initial state as the function takes it.
    """

    function: str
    spec: str
    tensors: Arguments
    expected: Callable[[Arguments], Arguments] = same
    options: Arguments = field(default_factory=dict)
    constants: dict[str, float] = field(default_factory=dict)
    states: tuple[tuple[int, ...], ...] = ((H, K, V),)
    label: str = ""

    def __str__(self) -> str:
        return f"{self.function} {self.label}".strip()


def normed(given: Arguments) -> Arguments:
    return given | {"q": l2norm(given["q"]), "k": l2norm(given["k"])}


def raw_gate(given: Arguments, rates: Tensor, bias: Tensor) -> Tensor:
    """-exp(A_log) softplus(g + dt_bias), heads first."""
    g = given["g"]
    shape = g.shape[2:]
    speed = rates.exp().reshape(-1, *[1] * (g.dim() - 3))
    return -speed * softplus(g + bias.reshape(shape))


def steps(x: Tensor, n: int) -> Tensor:
    """[B, T n, H, ...] interleaved as [B, T, H, n, ...]."""
    return x.unflatten(1, (-1, n)).transpose(2, 3)


SCALARS = {"g": decay(5, HV), "beta": rate(6, HV)}
CHANNELS = {"g": decay(5, HV, K), "beta": rate(6, HV)}
RANK_ONE = {
    "q": token(1, H, K),
    "k": token(2, H, K),
    "v": token(3, H, V),
    "a": unit(7, H, K),
    "b": unit(8, H, K),
}
NO_DECAY = {"gk": torch.zeros(1, T, H, K, dtype=torch.float64)}
WKV = {"r": token(1, H, K), "w": 0.3 * decay(5, H, K), "k": token(2, H, K), "v": token(3, H, V)}
SLOTS = {**qkv(), "s": token(7, H, M), "g": decay(5, H, M)}
POSITIVE = {**qkv(), "q": token(1, H, K).abs(), "k": token(2, H, K).abs()}
GROUPED = ((HV, K, V),)
A_LOG, BIAS, CHANNEL_BIAS = draw(9, HV), draw(10, HV), draw(10, HV * K)
GAMMA = -draw(11, H).abs()


def product(n: int, gated: bool) -> Arguments:
    own = {
        "q": token(1, H, K),
        "k": 0.7 * unit(2, H, K, length=T * n),
        "v": token(3, H, V, length=T * n),
        "beta": rate(6, H, length=T * n),
    }
    return own | ({"g": decay(5, H)} if gated else {"g": None})


def product_of(n: int, *, norm: bool, spec_norm: bool) -> Callable[[Arguments], Arguments]:
    def expected(given: Arguments) -> Arguments:
        given = {name: x for name, x in given.items() if x is not None}
        if norm:
            given |= {"q": l2norm(given["q"])}
            given |= {} if spec_norm else {"k": l2norm(given["k"])}
        return given | {name: steps(given[name], n) for name in ("k", "v", "beta")}

    return expected


def channels(given: Arguments) -> Arguments:
    """One decay a head, in every channel."""
    total = given["g"] + given.get("g_gamma", 0)
    own = {name: given[name] for name in ("q", "k", "v")}
    return own | {"g": total[..., None].expand(1, T, H, K)}


NORM = {"use_qk_l2norm_in_kernel": True}
RETENTION = [
    Call(name, "retention", qkv())
    for name in ("chunk_retention", "fused_chunk_retention", "fused_recurrent_retention")
]
SIMPLE = [
    call
    for name in ("chunk_simple_gla", "fused_chunk_simple_gla", "fused_recurrent_simple_gla")
    for call in (
        Call(name, "gla", {**qkv(), "g": decay(5, H)}, channels),
        Call(name, "retention", {**qkv(), "g_gamma": GAMMA}, renamed(g="g_gamma"), label="gamma"),
    )
]
LINEAR = [
    call
    for name in (
        "chunk_linear_attn",
        "fused_chunk_linear_attn",
        "fused_recurrent_linear_attn",
    )
    for call in (
        Call(name, "linear_attention", qkv(), options={"normalize": False}),
        Call(
            name,
            "linear_attention_normalized",
            POSITIVE,
            options={"normalize": True},
            states=((H, K, V), (1, H, K)),
            label="normalised",
        ),
    )
]

CALLS = [
    *LINEAR,
    *RETENTION,
    *SIMPLE,
    Call("chunk_simple_gla", "linear_attention", qkv(), label="no decay"),
    Call(
        "chunk_simple_gla",
        "gla",
        {**qkv(), "g": decay(5, H), "g_gamma": GAMMA},
        channels,
        label="both",
    ),
    *(
        Call(
            name,
            "lightning_attention",
            qkv(),
            options={"layer_idx": 3, "num_layers": 8},
            constants={"layer_idx": 3.0, "num_layers": 8.0},
        )
        for name in ("chunk_lightning_attn", "fused_recurrent_lightning_attn")
    ),
    Call("chunk_gla", "gla", {**qkv(), "g": decay(5, H, K)}),
    Call("fused_recurrent_gla", "gla", {**qkv(), "gk": decay(5, H, K)}, renamed(g="gk")),
    Call("fused_recurrent_gla", "linear_attention", qkv(), label="no decay"),
    *(
        Call(name, "rwkv6", {**WKV, "u": draw(12, H, K)})
        for name in ("chunk_rwkv6", "fused_recurrent_rwkv6")
    ),
    Call(
        "chunk_rwkv7",
        "dplr",
        {**WKV, "w": 3 * WKV["w"], "a": unit(7, H, K), "b": unit(8, H, K)},
        renamed(q="r", gk="w"),
        constants={"scale": 1.0},
    ),
    Call(
        "chunk_rwkv7",
        "rwkv7",
        {**WKV, "w": WKV["w"].clamp(min=-0.6), "a": unit(7, H, K), "b": unit(8, H, K)},
        options={"lower_bound": -0.6},
        label="bounded",
    ),
    Call(
        "fused_recurrent_rwkv7",
        "dplr",
        {**WKV, "a": unit(7, H, K), "b": unit(8, H, K)},
        renamed(q="r", gk="w"),
    ),
    *(
        Call(name, "dplr", {**RANK_ONE, "gk": decay(5, H, K)})
        for name in ("chunk_dplr_delta_rule", "fused_recurrent_dplr_delta_rule")
    ),
    *(
        Call(name, "dplr", RANK_ONE, lambda given: given | NO_DECAY)
        for name in ("chunk_iplr_delta_rule", "fused_recurrent_iplr_delta_rule")
    ),
    *(
        Call(name, "gsa", SLOTS, states=((H, K, M), (H, M, V)))
        for name in ("chunk_gsa", "fused_recurrent_gsa")
    ),
    *(
        Call(name, "delta_rule", {**qkv(), "beta": rate(6, H)}, fix, options, label=label)
        for name in ("chunk_delta_rule", "fused_recurrent_delta_rule")
        for fix, options, label in ((same, {}, ""), (normed, NORM, "normalised"))
    ),
    Call(
        "fused_recurrent_delta_rule",
        "delta_rule",
        qkv(),
        lambda given: given | {"beta": torch.ones(1, T, H, dtype=torch.float64)},
        label="no rate",
    ),
    *(
        Call(name, "gated_delta_rule", {**qkv(HV), **SCALARS}, fix, options, {}, GROUPED, label)
        for name in ("chunk_gated_delta_rule", "fused_recurrent_gated_delta_rule")
        for fix, options, label in (
            (same, {}, ""),
            (normed, NORM, "normalised"),
            (
                lambda given: given | {"beta": 2 * given["beta"].sigmoid()},
                {"use_beta_sigmoid_in_kernel": True, "allow_neg_eigval": True},
                "raw rate",
            ),
            (
                lambda given: given | {"g": raw_gate(given, A_LOG, BIAS)},
                {"use_gate_in_kernel": True, "A_log": A_LOG, "dt_bias": BIAS},
                "raw gate",
            ),
        )
    ),
    Call(
        "fused_recurrent_gated_delta_rule",
        "kda",
        {**qkv(HV), "gk": decay(5, HV, K), **SCALARS},
        lambda given: (
            {n: x for n, x in given.items() if n != "gk"}
            | {"g": given["g"][..., None] + given["gk"]}
        ),
        states=GROUPED,
        label="both decays",
    ),
    *(
        Call(name, "kda", {**qkv(HV), **CHANNELS}, fix, options, {}, GROUPED, label)
        for name in ("chunk_kda", "fused_recurrent_kda")
        for fix, options, label in (
            (same, {}, ""),
            (normed, NORM, "normalised"),
            (
                lambda given: given | {"g": raw_gate(given, A_LOG, CHANNEL_BIAS)},
                {"use_gate_in_kernel": True, "A_log": A_LOG, "dt_bias": CHANNEL_BIAS},
                "raw gate",
            ),
            (
                lambda given: given | {"g": -5 * (A_LOG.exp()[:, None] * given["g"]).sigmoid()},
                {"use_gate_in_kernel": True, "A_log": A_LOG, "lower_bound": -5.0},
                "bounded gate",
            ),
        )
    ),
    *(
        Call(
            "chunk_gated_delta_product",
            "gated_delta_product" if gated else "delta_product",
            product(2, gated),
            product_of(2, norm=norm, spec_norm=gated),
            {"num_householder": 2, "use_qk_l2norm_in_kernel": norm},
            label=f"{'gated' if gated else 'undecayed'} {'normalised' if norm else ''}",
        )
        for gated, norm in ((True, True), (False, True), (False, False))
    ),
]
"""Every function at least once."""
