"""Mixers beside token loops written after their papers, in float64."""

import torch
from mixers import HEADS, WIDTH, assert_near, drawn, small
from torch.nn import functional

TOKENS = 9


def parts_of(name):
    """The mixer in float64, a hidden state [TOKENS, WIDTH], and weights of streams by name."""
    part = small(name).double()
    x = drawn(TOKENS, WIDTH, seed=6, dtype=torch.float64)
    return part, x, {n: stream.full.weight for n, stream in part.streams.items()}


def heads(x):
    return x.view(TOKENS, HEADS, -1)


def before(x):
    return functional.pad(x, (0, 0, 1, -1))


def rms(x, dims=(-1,)):
    return x * (x.square().mean(dims, keepdim=True) + 1e-5).rsqrt()


def group_normed(part, o):
    """[TOKENS, HEADS * V] of o [TOKENS, HEADS, V]."""
    size = o.shape[-1]
    shifted = o - o.mean(-1, keepdim=True)
    scaled = shifted / (shifted.square().mean(-1, keepdim=True) + 1e-5 * size).sqrt()
    return scaled.flatten(1) * part.norm.weight + part.norm.bias


def close(part, x, o):
    assert_near(part(x[None])[0], o @ part.out.weight.T, 1e-10)


@torch.no_grad()
def test_retention():
    part, x, w = parts_of("retention")
    q, k, v = (heads(x @ w[n].T) for n in "qkv")
    gate = functional.silu(x @ w["gate"].T)
    angles = 10_000.0 ** -torch.linspace(0, 1, q.shape[-1] // 2)
    turn = torch.polar(
        torch.ones(TOKENS, 1, len(angles)), torch.arange(TOKENS)[:, None, None] * angles
    )
    q, k = (torch.view_as_complex(y.unflatten(-1, (-1, 2))) * turn for y in (q, k))
    decay = 1 - 2.0 ** (-5 - torch.arange(HEADS, dtype=torch.float64))
    o = torch.zeros_like(v)
    for n in range(TOKENS):
        for m in range(n + 1):
            fit = (q[n] * k[m].conj()).real.sum(-1) * (2 * q.shape[-1]) ** -0.5
            o[n] += (fit * decay ** (n - m))[:, None] * v[m]
    assert_near(part(x[None])[0], (rms(o).flatten(1) * gate) @ part.out.weight.T, 1e-6)


@torch.no_grad()
def test_hgrn2():
    part, x, w = parts_of("hgrn2")
    q, v = functional.silu(heads(x @ w["q"].T)), heads(x @ w["v"].T)
    shares = part.learned["bounds"].softmax(0)
    bound = shares.cumsum(0)[1] - shares[0]
    forget = bound + (1 - bound) * torch.sigmoid(heads(x @ w["g"].T))
    state, o = torch.zeros(HEADS, q.shape[-1], v.shape[-1]).double(), []
    for n in range(TOKENS):
        state = forget[n][..., None] * state + (1 - forget[n])[..., None] * v[n][:, None]
        o.append(torch.einsum("hkv,hk->hv", state, q[n]) * q.shape[-1] ** -0.5)
    close(part, x, (rms(torch.stack(o), (1, 2)) * part.norm.weight).flatten(1))


@torch.no_grad()
def test_rwkv6():
    part, x, w = parts_of("rwkv6")
    shift, difference = part.shift, before(x) - x
    mixed = {}
    for i, name in enumerate(("r", "k", "v", "w", "gate")):
        low = torch.tanh((x + difference * shift.first) @ shift.down[i]) @ shift.up[i]
        mixed[name] = x + difference * (shift.mix[name] + low)
    r, k, v = (heads(mixed[n] @ w[n].T) for n in "rkv")
    low = torch.tanh(mixed["w"] @ part.streams["w"].low.weight.T)
    decay = heads(torch.exp(-torch.exp(part.streams["w"].bias + low @ w["w"].T)))
    state, o = torch.zeros(HEADS, r.shape[-1], v.shape[-1]).double(), []
    for n in range(TOKENS):
        own = k[n][..., None] * v[n][:, None]
        seen = state + part.learned["u"][..., None] * own
        o.append(torch.einsum("hkv,hk->hv", seen, r[n]))
        state = decay[n][..., None] * state + own
    gate = functional.silu(mixed["gate"] @ w["gate"].T)
    close(part, x, group_normed(part, torch.stack(o)) * gate)


@torch.no_grad()
def test_rwkv7():
    part, x, w = parts_of("rwkv7")
    low, bias = ({n: getattr(s, f) for n, s in part.streams.items()} for f in ("low", "bias"))
    mixed = {n: x + (before(x) - x) * mix for n, mix in part.shift.mix.items()}
    r, k, v = (heads(mixed[n] @ w[n].T) for n in "rkv")
    slow = bias["w"] + torch.tanh(mixed["w"] @ low["w"].weight.T) @ w["w"].T
    decay = heads(torch.exp(-torch.exp(-functional.softplus(-slow) - 0.5)))
    rate = heads(torch.sigmoid(bias["rate"] + mixed["rate"] @ low["rate"].weight.T @ w["rate"].T))
    gate = torch.sigmoid(mixed["gate"] @ low["gate"].weight.T) @ w["gate"].T
    kappa = k * part.learned["removal"]
    kappa = kappa / kappa.norm(dim=-1, keepdim=True)
    k = k * (1 + (rate - 1) * part.learned["mixed"])
    state, o = torch.zeros(HEADS, r.shape[-1], v.shape[-1]).double(), []
    for n in range(TOKENS):
        removed = torch.einsum("hk,hkv->hv", kappa[n], state)
        state = decay[n][..., None] * state - (kappa[n] * rate[n])[..., None] * removed[:, None]
        state = state + k[n][..., None] * v[n][:, None]
        o.append(torch.einsum("hkv,hk->hv", state, r[n]))
    own = (r * k * part.learned["bonus"]).sum(-1, keepdim=True) * v
    close(part, x, (group_normed(part, torch.stack(o)) + own.flatten(1)) * gate)


@torch.no_grad()
def test_gsa():
    part, x, w = parts_of("gsa")
    q, k, v = (functional.silu(heads(x @ w[n].T)) for n in "qkv")
    kept = torch.sigmoid(heads(x @ w["g"].T)) ** (1 / 8)
    keys = torch.zeros(HEADS, kept.shape[-1], k.shape[-1]).double()
    values, o = torch.zeros(HEADS, kept.shape[-1], v.shape[-1]).double(), []
    for n in range(TOKENS):
        keys = kept[n][..., None] * keys + (1 - kept[n])[..., None] * k[n][:, None]
        values = kept[n][..., None] * values + (1 - kept[n])[..., None] * v[n][:, None]
        slots = torch.einsum("hmk,hk->hm", keys, q[n]).softmax(-1)
        o.append(torch.einsum("hmv,hm->hv", values, slots))
    close(part, x, (rms(functional.silu(torch.stack(o)), (1, 2)) * part.norm.weight).flatten(1))
