"""The adapters of other libraries, run with stand-ins that have the same signatures."""

import inspect
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import logsigmoid, softplus

from lincodegen import pipeline
from lincodegen.bench.contestants import Contestant, evaluate, timed
from lincodegen.bench.exact import exact
from lincodegen.bench.inputs import draw
from lincodegen.bench.peers import PEERS
from lincodegen.bench.shapes import Shape, Work, preset
from lincodegen.integrations import fla
from lincodegen.ops import gated_delta_rule
from lincodegen.resources import specs_dir

CPU = torch.device("cpu")
SIGNATURES = json.loads((Path(__file__).parent / "signatures.json").read_text(encoding="utf-8"))
GROUPED = ("gated_delta_rule", "mamba2")


def work_of(peer) -> Work:
    """A tiny call: several sequences, K and V unlike, shared keys where peers know them."""
    keys = 2 if peer.op in GROUPED else None
    shape = Shape(2, 1 if peer.state else 12, 4, size=8, dims=(("V", 6),), key_heads=keys)
    mode = "decode" if peer.state else "forward_backward" if peer.backward else "forward"
    return Work(peer.op, shape, mode)


def judged(contestant, inputs):
    reference = exact(inputs, 1e-4, (10, 6))
    outputs, gradients = evaluate(contestant, inputs, reference.cotangents)
    timed(contestant, inputs)()
    return reference.error(inputs, outputs, gradients), gradients


def inputs_of(work):
    recurrence = pipeline.load(specs_dir() / f"{work.op}.yaml")
    return draw(recurrence, work, torch.float32, CPU)


def spread(x, like):
    return x.repeat_interleave(like.shape[2] // x.shape[2], dim=2)


def delta(q, k, v, g, beta, **given):
    """The op for callers that have fewer keys than values."""
    return gated_delta_rule(spread(q, v), spread(k, v), v, g, beta)


def packed_delta(q, k, v, g, beta, cu_seqlens):
    rows = [x.unsqueeze(0) for x in (q, k, v, g.log(), beta)]
    return gated_delta_rule(*rows, cu_seqlens=cu_seqlens)[0].squeeze(0)


def state_space(x, dt, A, B, C, chunk_size):
    log, write = dt * A, spread(B, x)[..., None] * (x * dt[..., None])[..., None, :]
    state, outputs = 0.0, []
    for t in range(x.shape[1]):
        state = log[:, t, :, None, None].exp() * state + write[:, t]
        outputs.append((spread(C, x)[:, t, :, :, None] * state).sum(-2))
    return torch.stack(outputs, 1)


def state_update(state, x, dt, A, B, C, **added):
    """Of what is added the strides are read, so that both parts must be there."""
    assert {y.stride(-1) for y in (dt, A, added["dt_bias"])} == {0}
    assert added["D"].shape == added["dt_bias"].shape == x.shape[1:]
    dt = dt + added["dt_bias"]
    B, C = (y.repeat_interleave(x.shape[1] // y.shape[1], dim=1) for y in (B, C))
    state.mul_((dt[..., None] * A).exp()).add_((x * dt)[..., None] * B[..., None, :])
    return (state * C[..., None, :]).sum(-1) + added["D"] * x


def sigmoid_gated(q, k, v, f, i, normalize):
    """Heads first, both gates through a sigmoid, queries over sqrt(K)."""
    assert not normalize
    state, outputs = 0.0, []
    for t in range(q.shape[2]):
        write = k[:, :, t, :, None] * v[:, :, t, None, :]
        gates = logsigmoid(f[:, :, t]).exp(), i[:, :, t].sigmoid()
        state = gates[0][..., None, None] * state + gates[1][..., None, None] * write
        outputs.append((q[:, :, t, :, None] * state).sum(-2) / math.sqrt(q.shape[-1]))
    return torch.stack(outputs, 2)


def delta_token(q, k, v, state, use_qk_l2norm, **gates):
    """The state [B, H, V, K] in place, its gates from what they are computed of."""
    assert not use_qk_l2norm
    g = -gates["A_log"].exp() * softplus(gates["a"] + gates["dt_bias"])
    keys, beta = (spread(q, v), spread(k, v)), gates["b"].sigmoid()
    o, final = gated_delta_rule(*keys, v, g, beta, None, state.mT, True)
    state.copy_(final.mT)
    return o, state


STAND_INS = {
    "fla.ops.gated_delta_rule.naive:naive_chunk_gated_delta_rule": (
        lambda q, k, v, g, beta: gated_delta_rule(q, k, v, g, beta)
    ),
    "fla.ops.kda.naive:naive_chunk_kda": fla.chunk_kda,
    "flashinfer.gdn_decode:gated_delta_rule_decode_pretranspose": delta_token,
    "mlstm_kernels.torch.parallel.native_siging:mlstm_siging_parallel__native_autograd": (
        sigmoid_gated
    ),
    "flash_qla:chunk_gated_delta_rule": delta,
    "flashinfer.gdn_prefill:chunk_gated_delta_rule": packed_delta,
    "mamba_ssm.ops.triton.ssd_combined:mamba_chunk_scan_combined": state_space,
    "mamba_ssm.ops.triton.selective_state_update:selective_state_update": state_update,
    "mlstm_kernels.torch.chunkwise.triton_xl_chunk_siging:mlstm_siging_chunkwise__xl_chunk": (
        sigmoid_gated
    ),
}


def named(peer):
    return f"{peer.name} {peer.op}".replace(" ", "_")


def stand_in(peer):
    module, _, name = peer.path.partition(":")
    if peer.path in STAND_INS:
        return STAND_INS[peer.path]
    if module.startswith("fla."):
        return getattr(fla, name)
    if module.startswith("transformers."):
        modeling = pytest.importorskip(module)
        return inspect.unwrap(getattr(modeling, name))
    raise KeyError(peer.path)


def test_no_two_peers_of_one_work_share_a_name():
    keys = [(p.op, p.state is not None, p.name) for p in PEERS]
    assert len(set(keys)) == len(keys)
    assert {w.op for w in preset("published")} <= {p.op for p in PEERS}


def misnamed(peer):
    """Keywords that the real function does not name, and those it needs and does not get."""
    recorded = SIGNATURES[peer.path]
    given, required = set(peer.given(inputs_of(work_of(peer)))), set(recorded["required"])
    return (given - required - set(recorded["optional"])) | (required - given)


@pytest.mark.parametrize("peer", PEERS, ids=named)
def test_arguments_have_the_names_of_the_real_function(peer):
    assert misnamed(peer) == set()


def test_a_name_that_the_real_function_has_not_is_noticed():
    peer = next(p for p in PEERS if p.name == "FlashQLA")
    assert misnamed(replace(peer, arguments="q k v decay=g beta")) == {"decay", "g"}
    assert misnamed(replace(peer, options={"chunk": 64})) == {"chunk"}


@pytest.mark.parametrize("path", sorted(SIGNATURES))
def test_what_is_on_record_is_the_signature_of_what_is_installed(path):
    recorded = SIGNATURES[path]
    module, _, name = path.partition(":")
    found = pytest.importorskip(
        module, reason=f"{recorded['library']} is not installed", exc_type=ImportError
    )
    parameters = inspect.signature(inspect.unwrap(getattr(found, name))).parameters.values()
    named_ones = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p.name for p in named_ones if p.default is p.empty]
    assert required == recorded["required"]
    assert {p.name for p in named_ones} == {*required, *recorded["optional"]}


@pytest.mark.parametrize("peer", PEERS, ids=named)
def test_a_peer_gets_arguments_that_mean_the_same(peer):
    inputs = inputs_of(work_of(peer))
    contestant = Contestant(
        peer.name, "", "", peer.given, stand_in(peer), lambda y, x: (peer.output(y, x),)
    )
    error, gradients = judged(contestant, inputs)
    assert error.worst[1] < 1e-5
    if inputs.work.mode == "forward_backward":
        assert set(gradients) == set(inputs.tensors)
