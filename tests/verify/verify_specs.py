"""Specs that the tests of verify share."""

from lincodegen.spec.loader import load

RETENTION = load("""
name: retention
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
parameters:
  g: {shape: [], domain: "[-inf, 0]", default: "log1p(-2**(-5 - h))"}
constants: {scale: K**-0.5}
state: {S: {shape: [K, V]}}
step: |
  S = exp(g) * S + outer(k, v)
  o = scale * S.T @ q
""")

DELTA = load("""
name: gated_delta
inputs:
  q: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  v: {shape: [V]}
  g: {shape: [], domain: "[-inf, 0]"}
  beta: {shape: [], domain: "[0, 2]"}
constants: {scale: K**-0.5}
state: {S: {shape: [K, V]}}
step: |
  S = exp(g) * S
  S = S + beta * outer(k, v - S.T @ k)
  o = scale * S.T @ q
""")

PRODUCT = load("""
name: two_factors
inputs:
  q: {shape: [K]}
  k: {shape: [n, K]}
  v: {shape: [n, V]}
  g: {shape: [K], domain: "[-inf, 0]"}
  beta: {shape: [n], domain: "[0, 2]"}
constants: {n: 2}
state: {S: {shape: [K, V]}}
step: |
  S = exp(g)[:, None] * S
  for j in range(n):
      kj = l2norm(k[j])
      S = S + beta[j] * outer(kj, v[j] - S.T @ kj)
  o = S.T @ q
""")

BONUS = load("""
name: read_before
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
  g: {shape: [K], domain: "[-inf, 0]"}
parameters:
  u: {shape: [K]}
state: {S: {shape: [K, V]}}
step: |
  o = (S + outer(u * k, v)).T @ q
  S = diag(exp(g)) @ S + outer(k, v)
""")

NORMALISED = load("""
name: normalised
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
  i: {shape: []}
  f: {shape: []}
state: {S: {shape: [K, V]}, z: {shape: [K]}}
outputs: [o, m]
step: |
  S = sigmoid(f) * S + exp(i) * outer(k, v)
  z = sigmoid(f) * z + exp(i) * k
  m = maximum(abs(dot(z, q)), 1)
  o = S.T @ q / m
""")

RESET = load("""
name: reset
inputs:
  x: {shape: [D]}
  r: {shape: []}
state: {c: {shape: [D]}}
step: |
  y = log(x)
  c = where(r > 0, 0, 0.5 * c) + where(x > 0, y, 0)
  o = c
""")

FACTOR = load("""
name: factor
inputs:
  w: {shape: [D], domain: "[0, 1]"}
  x: {shape: [D]}
state: {c: {shape: [D]}}
step: |
  c = w * c + x
  o = c
""")
