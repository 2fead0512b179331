"""The gated delta rule on a CPU: the generated PyTorch form against that of transformers.

    python benchmarks/cpu_forward_backward.py [--quick] [--threads N] [--out FILE]

Both compute the same function of the same float32 tensors, in chunks of 64 tokens: queries and
keys of norm 1, beta in (0, 1), log decay -softplus(x), queries scaled by K**-0.5. Timed in turn
in one process are the forward without gradients, and forward and backward together. The errors
are those of outputs and gradients against the recurrence run token by token in float64, in
parts of the root mean square; as that takes long, they are taken on a shorter sequence.

Exits with 1 if an error of the generated form is more than a rounding above the other's.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import ROOT, alternate, write
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen3_next import modeling_qwen3_next
from transformers.utils import logging

from lincodegen.bench.provenance import load_average, provenance
from lincodegen.ops import gated_delta_rule
from lincodegen.resources import specs_dir
from lincodegen.spec import load
from lincodegen.verify import run

RESULT = ROOT / "benchmarks" / "results" / "cpu" / "gated_delta_rule_vs_transformers.json"
MEASURED = ("lincodegen/runtime", "generated/gated_delta_rule", "benchmarks/*.py")
SEED = 0
ROUNDING = 2.0**-24

Op = Callable[..., tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a call; ``oracle_tokens`` is T where errors are measured."""

    batch: int
    tokens: int
    heads: int
    key: int
    value: int
    oracle_tokens: int


FULL = Shape(batch=1, tokens=2048, heads=8, key=128, value=128, oracle_tokens=512)
QUICK = Shape(batch=1, tokens=160, heads=2, key=32, value=32, oracle_tokens=160)


def implementations() -> dict[str, Op]:
    """The two ops; that of transformers is its PyTorch form, whatever else is installed."""
    logging.set_verbosity_error()
    theirs = inspect.unwrap(modeling_qwen3_next.torch_chunk_gated_delta_rule)
    return {"lincodegen": gated_delta_rule, "transformers": theirs}


def draw(shape: Shape, tokens: int) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs by name, in the order of the call, and the gradient of the output."""
    generator = torch.Generator().manual_seed(SEED)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(shape.batch, tokens, shape.heads, *sizes, generator=generator)

    inputs = {
        "q": functional.normalize(normal(shape.key), dim=-1),
        "k": functional.normalize(normal(shape.key), dim=-1),
        "v": normal(shape.value),
        "g": -functional.softplus(normal()),
        "beta": torch.sigmoid(normal()),
    }
    return inputs, normal(shape.value)


def gradients(op: Op, inputs: Mapping[str, Tensor], d_out: Tensor) -> dict[str, Tensor]:
    """Output ``o`` and the gradients ``dq`` to ``dbeta``."""
    leaves = [x.detach().requires_grad_() for x in inputs.values()]
    out, _ = op(*leaves)
    found = torch.autograd.grad(out, leaves, d_out)
    named = dict(zip((f"d{name}" for name in inputs), found, strict=True))
    return {"o": out.detach(), **named}


def without_gradients(op: Op, inputs: Mapping[str, Tensor]) -> Tensor:
    """The output alone."""
    with torch.no_grad():
        return op(*inputs.values())[0]


def errors(ops: Mapping[str, Op], shape: Shape) -> dict[str, dict[str, float]]:
    """norm2(x - r) / norm2(r) of output and gradients by implementation; r in float64."""
    recurrence = load(specs_dir() / "gated_delta_rule.yaml")
    inputs, d_out = draw(shape, shape.oracle_tokens)

    def oracle(*tensors: Tensor) -> tuple[Tensor, None]:
        outputs, _ = run(recurrence, dict(zip(inputs, tensors, strict=True)))
        return outputs["o"], None

    exact = gradients(oracle, {n: x.double() for n, x in inputs.items()}, d_out.double())
    found: dict[str, dict[str, float]] = {}
    for name, op in ops.items():
        computed = gradients(op, inputs, d_out)
        found[name] = {
            n: ((x.double() - exact[n]).norm() / exact[n].norm()).item()
            for n, x in computed.items()
        }
    return found


def times(ops: Mapping[str, Op], shape: Shape, repeats: int) -> dict[str, Any]:
    """Samples of each implementation, and how many times faster the generated one is."""
    inputs, d_out = draw(shape, shape.tokens)
    kinds = {
        "forward": {n: partial(without_gradients, op, inputs) for n, op in ops.items()},
        "forward_backward": {n: partial(gradients, op, inputs, d_out) for n, op in ops.items()},
    }
    found: dict[str, Any] = {}
    for kind, calls in kinds.items():
        samples = alternate(calls, repeats)
        ours, theirs = (samples[n]["median_s"] for n in ("lincodegen", "transformers"))
        found[kind] = {**samples, "ratio": theirs / ours}
    return found


def report(result: Mapping[str, Any]) -> None:
    """Prints times and errors as tables."""
    shape, machine = result["shape"], result["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    print(f"{machine['cpu']}, {machine['threads']} threads, {versions}")
    print(
        f"B {shape['batch']}, T {shape['tokens']}, H {shape['heads']}, K {shape['key']}, "
        f"V {shape['value']}, float32; load average {result['load_before']} before, "
        f"{result['load_after']} after"
    )
    print(f"\n{'median, ms':<18}  {'lincodegen':>10}  {'transformers':>12}  {'ratio':>5}")
    for kind, row in result["times"].items():
        ours, theirs = (1e3 * row[n]["median_s"] for n in ("lincodegen", "transformers"))
        print(f"{kind:<18}  {ours:>10.1f}  {theirs:>12.1f}  {row['ratio']:>5.2f}")
    heading = f"error, T {shape['oracle_tokens']}"
    print(f"\n{heading:<18}  {'lincodegen':>10}  {'transformers':>12}")
    mine, other = result["errors"]["lincodegen"], result["errors"]["transformers"]
    for name in mine:
        print(f"{name:<18}  {mine[name]:>10.2e}  {other[name]:>12.2e}")


def main() -> int:
    """Measures, prints and writes; 1 if the generated form is the less accurate."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON; with --quick none is written without it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape, ops = QUICK if options.quick else FULL, implementations()
    before = load_average()
    measured = times(ops, shape, options.repeats)
    result: dict[str, Any] = {
        "shape": asdict(shape),
        "dtype": "float32",
        "load_before": before,
        "load_after": load_average(),
        "times": measured,
        "errors": errors(ops, shape),
        "provenance": provenance(("torch", "transformers"), MEASURED),
    }
    report(result)
    path = options.out or (None if options.quick else RESULT)
    if path is not None:
        write(path, result)
    mine, other = result["errors"]["lincodegen"], result["errors"]["transformers"]
    return int(any(mine[name] > other[name] + ROUNDING for name in mine))


if __name__ == "__main__":
    sys.exit(main())
