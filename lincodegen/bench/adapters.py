"""Arguments that other libraries take, made of the op's, and its output of what they return."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lincodegen.bench.inputs import Inputs
from lincodegen.bench.shapes import Work

Arguments = dict[str, Any]


def first(returned: Any) -> Tensor:
    """The output of a function that gives it alone or before others."""
    found: Tensor | tuple[Tensor, ...] = returned
    return found[0] if isinstance(found, tuple) else found


def interleaved(inputs: Inputs) -> Arguments:
    """k, v, beta [B, T, H, n, *] as [B, T n, H, *], the keys of the gated rule at norm 1."""
    x = inputs.tensors
    gated = "g" in x
    k = normalize(x["k"].float(), dim=-1).to(x["k"]) if gated else x["k"]
    parts = {"k": k, "v": x["v"], "beta": x["beta"].to(x["q"])}
    found: Arguments = {n: y.transpose(2, 3).flatten(1, 2) for n, y in parts.items()}
    return found | {"q": x["q"], "g": x.get("g"), "num_householder": parts["k"].shape[3]}


def as_scalar_decay(inputs: Inputs) -> Arguments:
    """x, dt, A, B, C as queries, keys, values and one log decay a token, all of H heads."""
    x, heads = inputs.tensors, inputs.work.shape.heads
    return {
        "q": x["C"].repeat_interleave(heads // x["C"].shape[2], dim=2),
        "k": x["B"].repeat_interleave(heads // x["B"].shape[2], dim=2),
        "v": (x["x"] * x["dt"][..., None]).to(x["x"]),
        "g": x["dt"] * x["A"],
    }


OPEN_GATE = 40.0
"""The sigmoid of it is 1 in float32."""
LEAST_DECAY = 1e-5


def as_sigmoid_gates(inputs: Inputs) -> Arguments:
    """The same, [B, H, T, *], the decay as the input of a sigmoid."""
    given = as_scalar_decay(inputs)
    log = given["g"]
    # moved off 0, where no input of a sigmoid is, with the gradient of what it was
    log = log + (log.clamp(-OPEN_GATE, -LEAST_DECAY) - log).detach()
    turned = {n: given[n].transpose(1, 2).contiguous() for n in "qkv"}
    turned["q"] = turned["q"] * turned["q"].shape[-1] ** 0.5
    forget = (log - torch.log(-torch.expm1(log))).transpose(1, 2).contiguous()
    return {**turned, "f": forget, "i": torch.full_like(forget, OPEN_GATE)}


def heads_first(returned: Any, _inputs: Inputs) -> Tensor:
    """The output of one that gives [B, H, T, *]."""
    return first(returned).transpose(1, 2)


def flat(inputs: Inputs) -> Arguments:
    """One packed sequence after the other, [B T, H, *], the decay itself and not its logarithm."""
    x, shape = inputs.tensors, inputs.work.shape
    found: Arguments = {n: x[n].flatten(0, 1) for n in ("q", "k", "v", "beta")}
    starts = torch.arange(shape.batch + 1, device=x["q"].device) * shape.tokens
    return found | {"g": x["g"].exp().flatten(0, 1), "cu_seqlens": starts}


def unflat(returned: Any, inputs: Inputs) -> Tensor:
    """The output of one that gives [B T, H, *]."""
    output, shape = first(returned), inputs.work.shape
    return output.view(shape.batch, shape.tokens, *output.shape[1:])


def spread_keys(inputs: Inputs) -> Arguments:
    """q and k of as many heads as the values have."""
    x, heads = inputs.tensors, inputs.work.shape.heads
    return {n: x[n].repeat_interleave(heads // x[n].shape[2], dim=2) for n in ("q", "k")}


def gate_inputs(inputs: Inputs) -> Arguments:
    """Log decays as -exp(A_log) softplus(a + dt_bias), beta as sigmoid(b); the state [B, H, V, K].

    a and b have the operands' dtype, since no other is taken.
    """
    x, (state,) = inputs.tensors, inputs.states.values()
    zero = torch.zeros(inputs.work.shape.heads, device=state.device)
    decay = -x["g"].float().clamp(max=-LEAST_DECAY)
    return {
        **{n: x[n] for n in ("q", "k", "v")},
        "A_log": zero,
        "dt_bias": zero,
        "a": torch.log(torch.expm1(decay)).to(x["q"]),
        "b": torch.logit(x["beta"].float()).to(x["q"]),
        "state": state.transpose(-1, -2).contiguous(),
    }


def selective_update(inputs: Inputs) -> Arguments:
    """One token [B, H, P]; dt and A spread over the channels, the state [B, H, P, N]."""
    x, (state,) = inputs.tensors, inputs.states.values()
    channels, size = x["x"].shape[-1], x["B"].shape[-1]
    nothing = torch.zeros_like(x["A"])[:, None].expand(-1, channels)
    return {
        "state": state.transpose(-1, -2).contiguous(),
        "x": x["x"][:, 0],
        "dt": x["dt"][:, 0, :, None].expand(-1, -1, channels),
        "A": x["A"][:, None, None].expand(-1, channels, size),
        # these are asked for their strides even where nothing is to be added
        "dt_bias": nothing,
        "D": nothing,
        "B": x["B"][:, 0],
        "C": x["C"][:, 0],
    }


def one_token(returned: Any, _inputs: Inputs) -> Tensor:
    """The output of one that gives [B, H, *]."""
    return first(returned).unsqueeze(1)


def pairwise_bytes(work: Work) -> int:
    """Of products over pairs of a chunk's tokens and channels, a few of them at a time."""
    shape, alive = work.shape, 8 if work.mode == "forward_backward" else 4
    return alive * 4 * shape.batch * shape.heads * shape.tokens * 64 * shape.size
