"""Recurrences for the token loops, and the oracle's outputs and gradients for them."""

import torch

from lincodegen.verify.reference import run

SPECS = {
    "householder": """name: probe
inputs:
  q:    {shape: [K]}
  k:    {shape: [n, K]}
  v:    {shape: [n, V]}
  g:    {shape: [], domain: "[-inf, 0]"}
  beta: {shape: [n], domain: "[0, 2]"}
constants: {n: 2, scale: K**-0.5}
state: {S: {shape: [K, V]}}
step: |
  S = exp(g) * S
  for j in range(n):
      kj = l2norm(k[j])
      S = S + beta[j] * outer(kj, v[j] - S.T @ kj)
  o = scale * S.T @ q
""",
    "recurrent gates": """name: probe
inputs:
  x: {shape: [D]}
  i: {shape: [D]}
  f: {shape: [D]}
parameters:
  R: {shape: [D, D]}
  b: {shape: [D]}
state: {c: {shape: [D]}, h: {shape: [D]}}
outputs: [y, c]
step: |
  u = tanh(x + R @ h + b)
  c = sigmoid(f + h) * c + exp(-softplus(-i)) * u
  h = c / (1 + abs(c))
  y = layernorm(h) * silu(x)
""",
    "riccati": """name: probe
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
parameters: {noise: {shape: [], domain: "[0.1, 2]"}}
state: {A: {shape: [K, K]}, W: {shape: [K, V]}}
step: |
  P = 0.9 * A + eye(K)
  gain = P @ k / (noise + dot(k, P @ k))
  A = P - outer(gain, P.T @ k)
  W = W + outer(gain, v - W.T @ k)
  o = W.T @ q
""",
    "scalar state": """name: probe
inputs:
  x: {shape: []}
  g: {shape: []}
state: {s: {shape: []}}
step: |
  s = sigmoid(g) * s + x
  o = maximum(s, 0.1)
""",
    "normaliser": """name: probe
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
  mask: {shape: []}
parameters: {u: {shape: [K]}}
state: {S: {shape: [K, V]}, z: {shape: [K]}}
outputs: [o, before]
step: |
  p = concat(k, -k)
  p = softmax(p)[0:K]
  before = S.T @ (q * u)
  S = where(mask > 0, S + outer(p, v), S)
  z = z + p
  o = (S.T @ q) / maximum(abs(dot(z, q)), 1)
""",
    "reset": """name: probe
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
parameters: {base: {shape: [V]}}
state: {S: {shape: [K, V]}, last: {shape: [V]}}
step: |
  o = S.T @ q + last
  S = outer(k, v)
  last = base
""",
    "delay line": """name: probe
inputs: {x: {shape: [V]}, a: {shape: []}}
state: {L: {shape: [3, V]}, F: {shape: [V]}}
outputs: [o, first, F]
step: |
  first = L[0]
  F = F + L[0] * L[1]
  o = F + L.T @ ones(3)
  L = concat(a * L[1:], outer(ones(1), x))
""",
    "functions": """name: probe
inputs: {a: {shape: [K]}, b: {shape: [K]}, M: {shape: [K, V]}}
state: {S: {shape: [2 * K]}}
step: |
  p = softmax(tanh(a)) + log1p(softplus(b)) + elu(gelu(a)) * silu(sign(b))
  w = where(p > 0.5, p**3 + p**0.7, log(sigmoid(b)))
  S = concat(w, S[0:K]) + cumsum(S)
  z = outer(S[K:2 * K], ones(V)) + eye(K) @ M @ M.T @ M
  o = maximum(ravel(z), 0.1)
""",
}
INTERPRETED = frozenset(["delay line"])
"""What Triton 3.6 does not compile: its passes fail on the gathers of rows that slices become."""
SIZES = {"K": 5, "V": 3, "D": 4}


def tensors_for(recurrence, heads, batch=2, length=7, seed=0, sequences=None):
    """Float64 tensors by name: inputs and parameters, then initial states.

    ``heads`` maps a name to its head count, 2 where it is missing; there are as many states as
    ``sequences``, or as ``batch``.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = {d: SIZES.get(d, 3 + i) for i, d in enumerate(recurrence.dims)}

    def draw(x, *lead):
        shape = [*lead, *(d.evaluate(sizes) for d in x.shape)]
        value = torch.randn(*shape, generator=generator, dtype=torch.float64)
        low, high = x.domain.low, x.domain.high
        if low > -torch.inf and high < torch.inf:
            value = low + (high - low) * torch.sigmoid(value)
        elif low > -torch.inf:
            value = low + value.abs()
        elif high < torch.inf:
            value = high - value.abs()
        if x.norm is not None:
            value = value / value.norm(dim=-1, keepdim=True) * x.norm.high
        return value

    given = {x.name: draw(x, batch, length, heads.get(x.name, 2)) for x in recurrence.inputs}
    given |= {x.name: draw(x, heads.get(x.name, 2)) for x in recurrence.parameters}
    states = {
        s.name: torch.randn(
            sequences or batch,
            heads.get(s.name, 2),
            *(d.evaluate(sizes) for d in s.shape),
            generator=generator,
            dtype=torch.float64,
        )
        / 2
        for s in recurrence.states
    }
    return given, states


def constants_of(recurrence):
    """Some values for the float constants, by name."""
    return {c.name: 0.4 + 0.3 * i for i, c in enumerate(recurrence.constants)}


def expected(recurrence, given, states, seed=1, cu_seqlens=None):
    """Outputs, final states, cotangents of both and the gradients of everything given."""
    leaves = {n: x.clone().requires_grad_() for n, x in given.items()}
    start = {n: x.clone().requires_grad_() for n, x in states.items()}
    constants = constants_of(recurrence)
    outputs, final = run(
        recurrence, leaves, constants=constants, initial_state=start, cu_seqlens=cu_seqlens
    )
    results = [*outputs.values(), *final.values()]
    generator = torch.Generator().manual_seed(seed)
    cotangents = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in results]
    wrt = [*leaves.values(), *start.values()]
    grads = torch.autograd.grad(results, wrt, cotangents, allow_unused=True)
    grads = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, wrt, strict=True)]
    return results, cotangents, grads
