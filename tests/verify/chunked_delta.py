"""A chunked gated delta rule written by hand, with faults to switch on.

It is the op that the harness must pass without a fault and fail with any. Decays are segment
sums, so that exact zeros and hard gates are right.
"""

from itertools import pairwise

import torch

CHUNK = 16

FAULTS = (
    "heads repeat as a whole",
    "gate of head 0",
    "decay not differentiated in the reads",
    "initial state ignored",
    "initial state not differentiated",
    "final state not differentiated",
    "masked after the exponential",
    "differences of cumulative sums",
    "last token of a part chunk not written",
    "read misses its own token",
    "beta differentiated once",
    "decay of the first token of a chunk missing",
    "products in bfloat16",
    "products in float8",
    "chunk state in bfloat16",
    "scale missing",
    "scale of 0 taken for none",
    "packed sequences leak",
    "no token is an error",
    "wrong dtype of the state",
    "argument changed in place",
    "state transposed",
    "one token off",
)


ROUNDED = {
    "products in bfloat16": torch.bfloat16,
    "products in float8": torch.float8_e4m3fn,
}


def chunked_delta(fault=None):
    """The op; ``fault`` is one of FAULTS or None."""

    def op(*tokens, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None):
        dtype = tokens[0].dtype
        tokens = _prepared(tokens, fault)
        batch, length, heads, size_k = tokens[0].shape
        assert length or fault != "no token is an error"
        count = batch if cu_seqlens is None else len(cu_seqlens) - 1
        shape = (count, heads, size_k, tokens[2].shape[-1])
        state = _first_state(initial_state, tokens[0].new_zeros(shape), fault)
        missing = not scale if fault == "scale of 0 taken for none" else scale is None
        scale = size_k**-0.5 if missing else scale
        scale = 1.0 if fault == "scale missing" else scale
        if cu_seqlens is None:
            o, final = _sequence(tokens, state, scale, fault)
        else:
            o, final = _packed(tokens, state, scale, fault, cu_seqlens.tolist())
        return o.to(dtype), _last_state(final, fault)

    return op


def _prepared(tokens, fault):
    """All tensors with as many heads as the largest, in float32 or float64."""
    heads = max(x.shape[2] for x in tokens)
    compute = torch.float64 if tokens[0].dtype == torch.float64 else torch.float32
    whole = fault == "heads repeat as a whole"
    q, k, v, g, beta = (_repeat(x.to(compute), heads, whole) for x in tokens)
    return q, k, v, g[:, :, :1].expand_as(g) if fault == "gate of head 0" else g, beta


def _first_state(initial_state, zero, fault):
    if initial_state is None or fault == "initial state ignored":
        return zero
    if fault == "argument changed in place":
        initial_state.data.mul_(0.5)
    state = initial_state.to(zero.dtype)
    return state.detach() if fault == "initial state not differentiated" else state


def _last_state(final, fault):
    if fault == "final state not differentiated":
        return final.detach()
    if fault == "wrong dtype of the state":
        return final.to(torch.bfloat16)
    return final.transpose(-1, -2) if fault == "state transposed" else final


def _repeat(x, heads, whole):
    times = heads // x.shape[2]
    return torch.cat([x] * times, 2) if whole else x.repeat_interleave(times, 2)


def _packed(tokens, state, scale, fault, offsets):
    outputs, finals = [], []
    for n, (start, stop) in enumerate(pairwise(offsets)):
        first = state[n : n + 1]
        if fault == "packed sequences leak" and finals:
            first = first + 0.1 * finals[-1]
        o, final = _sequence([x[:, start:stop] for x in tokens], first, scale, fault)
        outputs.append(o)
        finals.append(final)
    return torch.cat(outputs, 1), torch.cat(finals)


def _sequence(tokens, state, scale, fault):
    length = tokens[0].shape[1]
    outputs = [tokens[2][:, :0]]
    for start in range(0, length, CHUNK):
        piece = [x[:, start : start + CHUNK].transpose(1, 2) for x in tokens]
        o, state = _chunk(piece, state, scale, fault)
        outputs.append(o.transpose(1, 2))
    o = torch.cat(outputs, 1)
    if fault == "one token off" and length > 100:
        o = torch.cat([o[:, :77], 1.02 * o[:, 77:78], o[:, 78:]], 1)
    return o, state


def _chunk(tokens, state, scale, fault):
    q, k, v, g, beta = tokens
    size = g.shape[-1]
    if fault == "decay of the first token of a chunk missing":
        g = torch.cat([torch.zeros_like(g[..., :1]), g[..., 1:]], -1)
    if fault == "chunk state in bfloat16":
        state = state.to(torch.bfloat16).to(v)
    decay, prefix = _decays(g, fault)
    strict = torch.ones(size, size, dtype=torch.bool).tril(-1)
    gram = torch.where(strict, beta[..., None] * decay * (k @ k.mT), 0.0)
    old = prefix[..., None] * (k @ state)
    late = beta.detach() if fault == "beta differentiated once" else beta
    wanted = late[..., None] * v - beta[..., None] * old
    unit = torch.eye(size, dtype=gram.dtype) + gram
    z = torch.linalg.solve_triangular(unit, wanted, upper=False, unitriangular=True)
    if fault in ROUNDED:
        z = z.to(ROUNDED[fault]).to(v)
    mask = strict if fault == "read misses its own token" else strict | torch.eye(size).bool()
    between = decay.detach() if fault == "decay not differentiated in the reads" else decay
    reads = torch.where(mask, between * (q @ k.mT), 0.0)
    o = scale * (prefix[..., None] * (q @ state) + reads @ z)
    suffix = decay[..., -1, :]
    if fault == "last token of a part chunk not written" and size < CHUNK:
        suffix = torch.cat([suffix[..., :-1], torch.zeros_like(suffix[..., -1:])], -1)
    return o, prefix[..., -1:, None] * state + (suffix[..., None] * k).mT @ z


def _decays(g, fault):
    """exp of the sum of g after j up to i, [..., i, j], and from the chunk's start, [..., i]."""
    size = g.shape[-1]
    lower = torch.ones(size, size, dtype=torch.bool).tril()
    total = g.cumsum(-1)
    if fault == "masked after the exponential":
        return torch.exp(total[..., :, None] - total[..., None, :]) * lower, torch.exp(total)
    if fault == "differences of cumulative sums":
        finite = g.clamp(min=-1e30).cumsum(-1)
        between = finite[..., :, None] - finite[..., None, :]
    else:
        strict = torch.ones(size, size, dtype=torch.bool).tril(-1)
        between = torch.where(strict, g[..., :, None], 0.0).cumsum(-2)
    return torch.exp(torch.where(lower, between, -torch.inf)), torch.exp(total)
