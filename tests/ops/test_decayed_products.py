"""The tile functions of decayed products against sums over all pairs in float64."""

import pytest
import torch
from decayed_kernels import decayed_kernel

from lincodegen.testing import install_interpreter_fixes

N, K = 16, 16
READS, WRITES = (2, 1), (1, 0)
"""Of two log decays a token: what lies before the slots of a read and of a write."""
BITS = {torch.float32: 24, torch.bfloat16: 8, torch.float16: 11}
LOGS = {torch.bfloat16: 2e-4}
"""What a factor is off by, of 1, as its log decays are summed in 11 bits; of others in 22, 24."""
GATES = {
    "soft": lambda u: -0.02 * u,
    "middle": lambda u: -u,
    "hard": lambda u: -30 * u,
    "equal": lambda u: torch.full_like(u, -0.3127),
}


@pytest.fixture(autouse=True)
def interpreter():
    install_interpreter_fixes()


def decays(g):
    """[R, C, K], 0 for the writes of later tokens, and what is visible, [R, C]."""
    passed = torch.cat([torch.zeros(1, K), g.transpose(0, 1).reshape(2 * N, K).cumsum(0)])
    tokens = torch.arange(N)[:, None]
    reads, writes = ((2 * tokens + torch.tensor(p)).reshape(-1) for p in (READS, WRITES))
    gap = passed[reads][:, None] - passed[writes][None, :]
    seen = (tokens >= tokens.T).repeat_interleave(2, 0).repeat_interleave(2, 1)
    return torch.where(seen[..., None], torch.exp2(gap), 0.0), seen


def case(kind, dtype, gate):
    draw = torch.Generator().manual_seed(3)
    rows, columns = N * len(READS), N * len(WRITES)
    g = GATES[gate](torch.rand(2, N, K, generator=draw, dtype=torch.float64)).float()
    decay, seen = decays(g.double())
    first = {"gram": (rows, K), "rows": (rows, columns), "columns": (columns, rows)}[kind]
    x = torch.randn(first, generator=draw)
    if kind != "gram":
        x = x * (seen if kind == "rows" else seen.T)
    y = torch.randn(rows if kind == "columns" else columns, K, generator=draw)
    return x.to(dtype), y.to(dtype), g, decay, seen


def evaluated(kind, x, y, g, *, bounded=False):
    shape = (x.shape[0], y.shape[0] if kind == "gram" else K)
    z = torch.empty((2, *shape))
    decayed_kernel[(1,)](x, y, z, g, kind, READS, WRITES, 2, bounded, N, K)
    return z.double()


def terms(kind, x, y, decay):
    """What a product adds up, the summed axis last."""
    x, y = x.double(), y.double()
    if kind == "gram":
        return x[:, None] * y[None] * decay
    if kind == "rows":
        return (x[:, :, None] * y[None] * decay).transpose(1, 2)
    return (x[:, :, None] * y[None] * decay.transpose(0, 1)).transpose(1, 2)


@pytest.mark.parametrize("dtype", BITS, ids=str)
@pytest.mark.parametrize("kind", ["gram", "rows", "columns"])
@pytest.mark.parametrize("gate", GATES)
def test_they_are_the_sums_over_pairs(kind, dtype, gate):
    """No term is off by more than its three roundings and its log decays, of 1 before decays."""
    x, y, g, decay, seen = case(kind, dtype, gate)
    z, w = evaluated(kind, x, y, g)
    exact = terms(kind, x, y, decay).sum(-1)
    whole = terms(kind, x, y, torch.ones_like(decay)).abs().sum(-1)
    if kind == "gram":
        z, w = (torch.where(seen, part, 0.0) for part in (z, w))
    off = 3 * 2.0 ** -BITS[dtype] + 2 * LOGS.get(dtype, 0.0)
    assert ((z - exact).abs() <= off * whole).all()
    assert torch.equal(w, -z)


@pytest.mark.parametrize("log", [-0.09058, -0.00305, -0.7])
def test_a_decay_errs_by_its_factors_alone(log):
    """Equal log decays, all rounded the same way: eight bits of them would not do."""
    g = torch.full((2, N, K), log)
    decay, seen = decays(g.double())
    one = torch.eye(K, dtype=torch.float16)[:1].repeat(2 * N, 1)
    z, _ = evaluated("gram", one, one, g)
    exact = decay[..., 0]
    off = 2 * 2.0**-11 * exact + 1e-6
    assert ((torch.where(seen, z, 0.0) - exact).abs() <= off).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["gram", "rows", "columns"])
def test_bounded_ones_are_the_same(kind, dtype):
    x, y, g, _, seen = case(kind, dtype, "soft")
    shared = [evaluated(kind, x, y, g, bounded=bounded) for bounded in (False, True)]
    general, bounded = (torch.where(seen, z, 0.0) if kind == "gram" else z for z in shared)
    off = 6 * 2.0 ** -BITS[dtype] + 4 * LOGS.get(dtype, 0.0)
    whole = terms(kind, x, y, torch.ones(2 * N, 2 * N, K)).abs().sum(-1)
    assert ((bounded - general).abs() <= off * whole).all()
    assert torch.equal(bounded[1], -bounded[0])
