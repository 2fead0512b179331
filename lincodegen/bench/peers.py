"""Functions of other libraries that compute what an op computes: one entry a function.

An entry says where the function is, which op it is a peer of and how its arguments are made of
the op's. What it takes to make them is not timed: the peer gets its own layout as a gift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lincodegen.bench.inputs import Inputs
from lincodegen.bench.shapes import Work

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """A function of another library.

    Attributes:
        name: as in tables.
        library: the distribution whose version is stated.
        path: ``module:function``.
        arguments: ``theirs=ours`` apart by spaces, ``x`` for ``x=x``.
        options: further keywords.
        prepare: makes the arguments where renaming is not enough.
        restore: makes the output [B, T, H, *shape] of what is returned; by default its first part.
        state: the keyword of the initial state; with it a token of a decode is timed.
        backward: whether it has one.
        on_cpu: whether it runs there.
        most_tokens: longer sequences are left out.
        scratch: bytes that a call needs at least, where that is much.
    """

    name: str
    library: str
    path: str
    op: str
    arguments: str = ""
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    prepare: Callable[[Inputs], Arguments] | None = None
    restore: Callable[[Any, Inputs], Tensor] | None = None
    state: str | None = None
    backward: bool = True
    on_cpu: bool = False
    most_tokens: int | None = None
    scratch: Callable[[Work], int] | None = None

    def given(self, inputs: Inputs) -> Arguments:
        """Keywords of a call."""
        names = (word.partition("=") for word in self.arguments.split())
        found: Arguments = {theirs: inputs.tensors[ours or theirs] for theirs, _, ours in names}
        if self.prepare is not None:
            found |= self.prepare(inputs)
        if self.state is not None:
            found.setdefault(self.state, inputs.state)
        return found | dict(self.options)

    def output(self, returned: object, inputs: Inputs) -> Tensor:
        """The output in the op's layout."""
        if self.restore is not None:
            return self.restore(returned, inputs)
        return _first(returned)


def _first(returned: Any) -> Tensor:
    """The output of a function that gives it alone or before others."""
    found: Tensor | tuple[Tensor, ...] = returned
    return found[0] if isinstance(found, tuple) else found


def _interleaved(inputs: Inputs) -> Arguments:
    """k, v, beta [B, T, H, n, *] as [B, T n, H, *], the keys of the gated rule at norm 1."""
    x = inputs.tensors
    gated = "g" in x
    k = normalize(x["k"].float(), dim=-1).to(x["k"]) if gated else x["k"]
    parts = {"k": k, "v": x["v"], "beta": x["beta"].to(x["q"])}
    found: Arguments = {n: y.transpose(2, 3).flatten(1, 2) for n, y in parts.items()}
    return found | {"q": x["q"], "g": x.get("g"), "num_householder": parts["k"].shape[3]}


def _as_scalar_decay(inputs: Inputs) -> Arguments:
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


def _as_sigmoid_gates(inputs: Inputs) -> Arguments:
    """The same, [B, H, T, *], the decay as the input of a sigmoid."""
    given = _as_scalar_decay(inputs)
    log = given["g"]
    # moved off 0, where no input of a sigmoid is, with the gradient of what it was
    log = log + (log.clamp(-OPEN_GATE, -LEAST_DECAY) - log).detach()
    turned = {n: given[n].transpose(1, 2).contiguous() for n in "qkv"}
    turned["q"] = turned["q"] * turned["q"].shape[-1] ** 0.5
    forget = (log - torch.log(-torch.expm1(log))).transpose(1, 2).contiguous()
    return {**turned, "f": forget, "i": torch.full_like(forget, OPEN_GATE)}


def _heads_first(returned: Any, _inputs: Inputs) -> Tensor:
    return _first(returned).transpose(1, 2)


def _flat(inputs: Inputs) -> Arguments:
    """One packed sequence after the other, [B T, H, *], the decay itself and not its logarithm."""
    x, shape = inputs.tensors, inputs.work.shape
    found: Arguments = {n: x[n].flatten(0, 1) for n in ("q", "k", "v", "beta")}
    starts = torch.arange(shape.batch + 1, device=x["q"].device) * shape.tokens
    return found | {"g": x["g"].exp().flatten(0, 1), "cu_seqlens": starts}


def _unflat(returned: Any, inputs: Inputs) -> Tensor:
    output, shape = _first(returned), inputs.work.shape
    return output.view(shape.batch, shape.tokens, *output.shape[1:])


def _selective_update(inputs: Inputs) -> Arguments:
    """One token [B, H, P]; dt and A spread over the channels, the state [B, H, P, N]."""
    x, (state,) = inputs.tensors, inputs.states.values()
    channels, size = x["x"].shape[-1], x["B"].shape[-1]
    return {
        "state": state.transpose(-1, -2).contiguous(),
        "x": x["x"][:, 0],
        "dt": x["dt"][:, 0, :, None].expand(-1, -1, channels),
        "A": x["A"][:, None, None].expand(-1, channels, size),
        "B": x["B"][:, 0],
        "C": x["C"][:, 0],
    }


def _one_token(returned: Any, _inputs: Inputs) -> Tensor:
    return _first(returned).unsqueeze(1)


def _pairwise_bytes(work: Work) -> int:
    """Of products over pairs of a chunk's tokens and channels, a few of them at a time."""
    shape, alive = work.shape, 8 if work.mode == "forward_backward" else 4
    return alive * 4 * shape.batch * shape.heads * shape.tokens * 64 * shape.size


DELTA = "q k v g beta"
HF_DELTA = "query=q key=k value=v g beta"
FINAL: Mapping[str, object] = {"output_final_state": True}
HF_GATED = "transformers.models.qwen3_next.modeling_qwen3_next"
HF_CHANNELS = "transformers.models.kimi_linear.modeling_kimi_linear"
HF_STATE_SPACE = "transformers.models.mamba2.modeling_mamba2"
NO_STATES: Mapping[str, object] = {"initial_state": None, "output_final_state": False}


def _fla(op: str, function: str, arguments: str = "", **options: Any) -> Peer:
    """A chunked function of flash-linear-attention; ``options`` are fields of `Peer`."""
    name, _, module = function.partition("@")
    return Peer(
        f"fla {name}", "flash-linear-attention", f"{module}:{name}", op, arguments, **options
    )


def _fla_token(op: str, function: str, arguments: str = "", **options: Any) -> Peer:
    """A function of flash-linear-attention that decodes."""
    given = {"options": FINAL, **options}
    return _fla(op, function, arguments, state="initial_state", **given)


PEERS: tuple[Peer, ...] = (
    Peer(
        "transformers chunk",
        "transformers",
        f"{HF_GATED}:torch_chunk_gated_delta_rule",
        "gated_delta_rule",
        HF_DELTA,
        on_cpu=True,
    ),
    Peer(
        "transformers recurrent",
        "transformers",
        f"{HF_GATED}:torch_recurrent_gated_delta_rule",
        "gated_delta_rule",
        HF_DELTA,
        on_cpu=True,
        most_tokens=2048,
    ),
    Peer(
        "transformers recurrent",
        "transformers",
        f"{HF_GATED}:torch_recurrent_gated_delta_rule",
        "gated_delta_rule",
        HF_DELTA,
        FINAL,
        state="initial_state",
        on_cpu=True,
    ),
    Peer(
        "transformers chunk",
        "transformers",
        f"{HF_CHANNELS}:chunk_kimi_delta_attention",
        "kda",
        HF_DELTA,
        on_cpu=True,
        scratch=_pairwise_bytes,
    ),
    Peer(
        "transformers recurrent",
        "transformers",
        f"{HF_CHANNELS}:recurrent_kimi_delta_attention",
        "kda",
        HF_DELTA,
        NO_STATES,
        on_cpu=True,
        most_tokens=2048,
    ),
    Peer(
        "transformers recurrent",
        "transformers",
        f"{HF_CHANNELS}:recurrent_kimi_delta_attention",
        "kda",
        HF_DELTA,
        FINAL,
        state="initial_state",
        on_cpu=True,
    ),
    Peer(
        "transformers chunk",
        "transformers",
        f"{HF_STATE_SPACE}:mamba2_chunk_scan",
        "mamba2",
        "hidden_states=x dt A B C",
        {"chunk_size": 256},
        on_cpu=True,
    ),
    _fla("gated_delta_rule", "chunk_gated_delta_rule@fla.ops.gated_delta_rule", DELTA),
    _fla_token(
        "gated_delta_rule", "fused_recurrent_gated_delta_rule@fla.ops.gated_delta_rule", DELTA
    ),
    _fla("kda", "chunk_kda@fla.ops.kda", DELTA),
    _fla_token("kda", "fused_recurrent_kda@fla.ops.kda", DELTA),
    *(
        _fla(
            op,
            "chunk_gated_delta_product@fla.ops.gated_delta_product",
            prepare=_interleaved,
        )
        for op in ("gated_delta_product", "delta_product")
    ),
    _fla("delta_rule", "chunk_delta_rule@fla.ops.delta_rule", "q k v beta"),
    _fla_token("delta_rule", "fused_recurrent_delta_rule@fla.ops.delta_rule", "q k v beta"),
    _fla(
        "mamba2",
        "chunk_simple_gla@fla.ops.simple_gla",
        options={"scale": 1.0},
        prepare=_as_scalar_decay,
    ),
    _fla_token(
        "mamba2",
        "fused_recurrent_simple_gla@fla.ops.simple_gla",
        options={**FINAL, "scale": 1.0},
        prepare=_as_scalar_decay,
    ),
    _fla("gla", "chunk_gla@fla.ops.gla", "q k v g"),
    _fla_token("gla", "fused_recurrent_gla@fla.ops.gla", "q k v gk=g"),
    _fla("retention", "chunk_simple_gla@fla.ops.simple_gla", "q k v g_gamma=g"),
    _fla("lightning_attention", "chunk_simple_gla@fla.ops.simple_gla", "q k v g_gamma=g"),
    _fla(
        "linear_attention",
        "chunk_linear_attn@fla.ops.linear_attn",
        "q k v",
        options={"normalize": False},
    ),
    _fla("dplr", "chunk_dplr_delta_rule@fla.ops.generalized_delta_rule", "q k v a b gk"),
    _fla("rwkv6", "chunk_rwkv6@fla.ops.rwkv6", "r k v w u"),
    _fla("rwkv7", "chunk_rwkv7@fla.ops.rwkv7", "r w k v a b"),
    _fla("gsa", "chunk_gsa@fla.ops.gsa", "q k v s g"),
    Peer(
        "FlashQLA",
        "flash-qla",
        "flash_qla:chunk_gated_delta_rule",
        "gated_delta_rule",
        DELTA,
    ),
    Peer(
        "FlashInfer",
        "flashinfer-python",
        "flashinfer.gdn_prefill:chunk_gated_delta_rule",
        "gated_delta_rule",
        prepare=_flat,
        restore=_unflat,
        backward=False,
    ),
    Peer(
        "mamba_ssm",
        "mamba-ssm",
        "mamba_ssm.ops.triton.ssd_combined:mamba_chunk_scan_combined",
        "mamba2",
        "x dt A B C",
        {"chunk_size": 256},
    ),
    Peer(
        "mamba_ssm",
        "mamba-ssm",
        "mamba_ssm.ops.triton.selective_state_update:selective_state_update",
        "mamba2",
        prepare=_selective_update,
        restore=_one_token,
        state="state",
    ),
    Peer(
        "mlstm_kernels",
        "mlstm-kernels",
        "mlstm_kernels.torch.chunkwise.triton_xl_chunk_siging:mlstm_siging_chunkwise__xl_chunk",
        "mamba2",
        options={"normalize": False},
        prepare=_as_sigmoid_gates,
        restore=_heads_first,
    ),
)


def peers_of(work: Work) -> list[Peer]:
    """The peers of an op that decode, or those that take sequences."""
    decodes = work.mode == "decode"
    return [p for p in PEERS if p.op == work.op and (p.state is not None) == decodes]
