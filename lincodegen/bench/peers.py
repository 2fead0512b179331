"""Functions of other libraries that compute what an op computes: one entry a function.

An entry says where the function is, which op it is a peer of and how its arguments are made of
the op's. What it takes to make them is not timed: the peer gets its own layout as a gift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lincodegen.bench import adapters
from lincodegen.bench.adapters import Arguments
from lincodegen.bench.inputs import Inputs
from lincodegen.bench.shapes import Work

if TYPE_CHECKING:
    from torch import Tensor


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
        return adapters.first(returned)


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
        scratch=adapters.pairwise_bytes,
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
    _fla(
        "gated_delta_rule",
        "naive_chunk_gated_delta_rule@fla.ops.gated_delta_rule.naive",
        "v g beta",
        prepare=adapters.spread_keys,
        on_cpu=True,
    ),
    _fla("kda", "chunk_kda@fla.ops.kda", DELTA),
    _fla(
        "kda",
        "naive_chunk_kda@fla.ops.kda.naive",
        DELTA,
        on_cpu=True,
        scratch=adapters.pairwise_bytes,
    ),
    _fla_token("kda", "fused_recurrent_kda@fla.ops.kda", DELTA),
    *(
        _fla(
            op,
            "chunk_gated_delta_product@fla.ops.gated_delta_product",
            prepare=adapters.interleaved,
        )
        for op in ("gated_delta_product", "delta_product")
    ),
    _fla("delta_rule", "chunk_delta_rule@fla.ops.delta_rule", "q k v beta"),
    _fla_token("delta_rule", "fused_recurrent_delta_rule@fla.ops.delta_rule", "q k v beta"),
    _fla(
        "mamba2",
        "chunk_simple_gla@fla.ops.simple_gla",
        options={"scale": 1.0},
        prepare=adapters.as_scalar_decay,
    ),
    _fla_token(
        "mamba2",
        "fused_recurrent_simple_gla@fla.ops.simple_gla",
        options={**FINAL, "scale": 1.0},
        prepare=adapters.as_scalar_decay,
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
        prepare=adapters.flat,
        restore=adapters.unflat,
        backward=False,
    ),
    Peer(
        "FlashInfer",
        "flashinfer-python",
        "flashinfer.gdn_decode:gated_delta_rule_decode_pretranspose",
        "gated_delta_rule",
        options={"use_qk_l2norm": False},
        prepare=adapters.gate_inputs,
        state="state",
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
        prepare=adapters.selective_update,
        restore=adapters.one_token,
        state="state",
    ),
    Peer(
        "mlstm_kernels",
        "mlstm-kernels",
        "mlstm_kernels.torch.chunkwise.triton_xl_chunk_siging:mlstm_siging_chunkwise__xl_chunk",
        "mamba2",
        options={"normalize": False},
        prepare=adapters.as_sigmoid_gates,
        restore=adapters.heads_first,
    ),
    Peer(
        "mlstm_kernels native",
        "mlstm-kernels",
        "mlstm_kernels.torch.parallel.native_siging:mlstm_siging_parallel__native_autograd",
        "mamba2",
        options={"normalize": False},
        prepare=adapters.as_sigmoid_gates,
        restore=adapters.heads_first,
        on_cpu=True,
        most_tokens=2048,
    ),
)


def peers_of(work: Work) -> list[Peer]:
    """The peers of an op that decode, or those that take sequences."""
    decodes = work.mode == "decode"
    return [p for p in PEERS if p.op == work.op and (p.state is not None) == decodes]
