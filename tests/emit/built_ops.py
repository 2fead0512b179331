"""Specs that are in no catalogue, and the ops that are built of them."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from lincodegen import pipeline
from lincodegen.emit.writer import write_package
from lincodegen.loading import load_package
from lincodegen.spec.loader import load

FOLDER = Path(tempfile.mkdtemp(prefix="lincodegen-tests-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

SPECS = {
    "plain": """
name: plain
inputs: {q: {shape: [K]}, k: {shape: [K]}, v: {shape: [V]}, g: {shape: [], domain: "[-inf, 0]"}}
constants: {scale: K**-0.5}
state: {S: {shape: [K, V]}}
step: |
  S = exp(g) * S + outer(k, v)
  o = scale * S.T @ q
""",
    "gates_from_parameters": """
name: gates_from_parameters
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
  dt: {shape: []}
  beta: {shape: [], domain: "[0, 1]"}
parameters:
  A: {shape: [], domain: "[-2, 1]", default: "-0.1 * (1 + h % 2) / H"}
  bias: {shape: []}
  D: {shape: [V], default: 0.5}
constants: {scale: K**-0.5, half: 0.5 * sqrt(K // 2)}
state: {S: {shape: [K, V]}}
step: |
  S = exp(-exp(A) * softplus(dt + bias)) * S
  key = l2norm(k)
  S = S + beta * outer(key, v - S.T @ key)
  o = scale * S.T @ l2norm(q) + half * D * v
""",
    "constant_operands": """
name: constant_operands
inputs: {q: {shape: [K]}, v: {shape: [V]}}
state: {S: {shape: [K, V]}, n: {shape: [K]}}
step: |
  S = 0.9 * S + outer(ones(K), v)
  n = n + 0.5
  o = S.T @ q + dot(n, q)
""",
    "sourceless": """
name: sourceless
inputs: {q: {shape: [K]}, v: {shape: [V]}}
state: {S: {shape: [K, V]}, n: {shape: [K]}}
step: |
  S = 0.9 * S + outer(ones(K), v)
  n = n + 0.5
  o = S.T @ q / (1 + dot(n, n))
""",
    "parameter_decays": """
name: parameter_decays
inputs: {q: {shape: [K]}, k: {shape: [K]}, v: {shape: [V]}}
parameters: {A: {shape: [K], domain: "[0, 2]"}}
state: {S: {shape: [K, V]}}
step: |
  S = exp(-A)[:, None] * S + outer(k, v)
  o = S.T @ q
""",
    "several_reads": """
name: several_reads
inputs:
  q: {shape: [K]}
  p: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  v: {shape: [V]}
  w: {shape: [], domain: "[0.25, 1]"}
state: {S: {shape: [K, V]}}
outputs: [before, after, mixed]
step: |
  before = S.T @ q
  S = w * S + outer(k, v)
  after = S.T @ p
  mixed = silu(before) * after + v
""",
    "transposed": """
name: transposed
inputs:
  q: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  v: {shape: [V]}
  beta: {shape: [], domain: "[0, 1]"}
constants: {rate: 0.5}
state: {S: {shape: [V, K]}}
step: |
  S = S + beta * outer(v - S @ k, k)
  o = 2 * rate * S @ q
""",
    "chained": """
name: chained
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  s: {shape: [M]}
  v: {shape: [V]}
  g: {shape: [M], domain: "[-inf, 0]"}
state: {Sk: {shape: [K, M]}, Sv: {shape: [M, V]}}
outputs: [o, p]
step: |
  Sk = Sk * exp(g) + outer(k, s)
  p = softmax(Sk.T @ q)
  Sv = exp(g)[:, None] * Sv + outer(s, v)
  o = Sv.T @ p
""",
    "slots": """
name: slots
inputs:
  q: {shape: [K]}
  k: {shape: [n, K]}
  v: {shape: [n, V]}
  beta: {shape: [n], domain: "[0, 2]"}
parameters: {rows: {shape: [n, K]}}
constants: {n: 3}
state: {S: {shape: [K, V]}}
step: |
  for j in range(n):
      S = S + beta[j] * outer(l2norm(k[j] + rows[j]), v[j] - S.T @ l2norm(k[j] + rows[j]))
  o = S.T @ q
""",
    "tokens": """
name: tokens
inputs:
  call: {shape: [K]}
  chunk: {shape: [K]}
  kernels: {shape: [V]}
  form: {shape: [], domain: "[-inf, 0]"}
  kept: {shape: [V]}
  do: {shape: [V]}
parameters: {reduced: {shape: []}}
constants: {run: 0.5, saved: K**-0.5}
state: {recurrent: {shape: [K, V]}}
outputs: [op]
step: |
  recurrent = exp(form) * recurrent + outer(chunk, tanh(kernels + reduced))
  op = 2 * saved * recurrent.T @ call + run * kept * do
""",
    "not_affine": """
name: not_affine
inputs: {q: {shape: [K]}, k: {shape: [K]}, v: {shape: [V]}}
parameters: {u: {shape: [K], default: "0.1 * h"}}
constants: {scale: K**-0.5}
state: {S: {shape: [K, V]}}
step: |
  S = tanh(S + outer(k, v)) * exp(-u * u)[:, None]
  o = scale * S.T @ q
""",
}


@cache
def recurrence_of(name: str):
    return load(SPECS[name])


@cache
def package_of(name: str):
    path = FOLDER / f"{name}.yaml"
    path.write_text(SPECS[name])
    return pipeline.compile_spec(path).package()


@cache
def op_of(name: str):
    package = package_of(name)
    write_package(package, FOLDER / "ops")
    return load_package(FOLDER / "ops" / package.name)
