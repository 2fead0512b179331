"""Decoding and prefill on a CPU: the generated gated delta rule against that of transformers.

    python benchmarks/cpu_decode.py [--quick] [--threads N] [--out FILE]

Both compute the same function of the same float32 tensors, with the head counts of Qwen3-Next:
half as many heads of queries and keys as of values. Queries and keys have norm 1, beta is in
(0, 1), the log decay is -softplus(x), queries are scaled by K**-0.5.

``decode`` is one token with a state that is given: ``step``, which writes it in place, against
``torch_recurrent_gated_delta_rule``. ``prefill`` is a sequence from no state to its final state:
the op against ``torch_chunk_gated_delta_rule``. They are timed in turn in one process. Errors of
output and state are those against the recurrence run token by token in float64, in parts of the
root mean square, of prefill on a shorter sequence; decode's are after several tokens.

Exits with 1 if decode is the slower, unless ``--quick``, or an error is above the other's and
above what the order of a sum of K products makes.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
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

RESULT = ROOT / "benchmarks" / "results" / "cpu" / "decode_vs_transformers.json"
MEASURED = ("lincodegen/runtime", "generated/gated_delta_rule", "benchmarks/*.py")
SEED = 0
ROUNDING = 2.0**-24
STEPS = 8

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the two calls; ``oracle_tokens`` is T where the errors of prefill are measured."""

    batch: int
    tokens: int
    key_heads: int
    value_heads: int
    key: int
    value: int
    oracle_tokens: int


FULL = Shape(1, 2048, 16, 32, 128, 128, 512)
QUICK = Shape(1, 160, 2, 4, 32, 32, 160)


def draw(shape: Shape, tokens: int) -> dict[str, Tensor]:
    """Inputs [B, T, H, ...] by name, in the order of the call."""
    generator = torch.Generator().manual_seed(SEED)

    def normal(heads: int, *sizes: int) -> Tensor:
        return torch.randn(shape.batch, tokens, heads, *sizes, generator=generator)

    return {
        "q": functional.normalize(normal(shape.key_heads, shape.key), dim=-1),
        "k": functional.normalize(normal(shape.key_heads, shape.key), dim=-1),
        "v": normal(shape.value_heads, shape.value),
        "g": -functional.softplus(normal(shape.value_heads)),
        "beta": torch.sigmoid(normal(shape.value_heads)),
    }


def drawn_state(shape: Shape) -> Tensor:
    """A state [B, H, K, V] as sequences leave it behind, in size."""
    generator = torch.Generator().manual_seed(SEED + 1)
    sizes = (shape.batch, shape.value_heads, shape.key, shape.value)
    return torch.randn(sizes, generator=generator) * shape.key**-0.5


class Decoder:
    """One token after another of one implementation, on a state of its own."""

    def __init__(self, step: Callable[..., Pair], state: Tensor) -> None:
        self._step = step
        self.state = state.clone()

    def __call__(self, *token: Tensor) -> Tensor:
        """Output [B, 1, H, V] of inputs [B, 1, H, ...]."""
        with torch.no_grad():
            output, self.state = self._step(token, self.state)
        return output


def generated_step(token: tuple[Tensor, ...], state: Tensor) -> Pair:
    """The op's step, with the axis of tokens that the other's call has."""
    output, state = gated_delta_rule.step(*(x[:, 0] for x in token), state=state)
    return output[:, None], state


def decoders(shape: Shape) -> dict[str, Decoder]:
    """Both implementations of one token; that of transformers is its PyTorch form."""
    theirs: Any = inspect.unwrap(modeling_qwen3_next.torch_recurrent_gated_delta_rule)

    def step(token: tuple[Tensor, ...], state: Tensor) -> Pair:
        return theirs(*token, initial_state=state, output_final_state=True)

    state = drawn_state(shape)
    return {"lincodegen": Decoder(generated_step, state), "transformers": Decoder(step, state)}


def prefills() -> dict[str, Callable[..., Pair]]:
    """Both implementations of a sequence."""
    theirs: Any = inspect.unwrap(modeling_qwen3_next.torch_chunk_gated_delta_rule)
    functions: dict[str, Callable[..., Pair]] = {
        "lincodegen": gated_delta_rule,
        "transformers": theirs,
    }

    def call(function: Callable[..., Pair]) -> Callable[..., Pair]:
        def prefill(*tensors: Tensor) -> Pair:
            with torch.no_grad():
                return function(*tensors, output_final_state=True)

        return prefill

    return {name: call(function) for name, function in functions.items()}


def times(shape: Shape, repeats: int, tokens: int) -> dict[str, Any]:
    """Samples of each implementation, and how many times faster the generated one is."""
    sequence = [*draw(shape, shape.tokens).values()]
    token = [x[:, :1] for x in sequence]
    kinds: dict[str, tuple[dict[str, Callable[[], object]], int]] = {
        "decode": ({n: _bound(f, token) for n, f in decoders(shape).items()}, tokens),
        "prefill": ({n: _bound(f, sequence) for n, f in prefills().items()}, repeats),
    }
    found: dict[str, Any] = {}
    for kind, (calls, count) in kinds.items():
        samples = alternate(calls, count)
        ours, theirs = (samples[n]["median_s"] for n in ("lincodegen", "transformers"))
        found[kind] = {**samples, "ratio": theirs / ours}
    return found


def _bound(function: Callable[..., object], tensors: list[Tensor]) -> Callable[[], object]:
    return lambda: function(*tensors)


def errors(shape: Shape) -> dict[str, dict[str, float]]:
    """norm2(x - r) / norm2(r) of outputs and states by implementation; r in float64."""
    recurrence = load(specs_dir() / "gated_delta_rule.yaml")

    def oracle(inputs: Mapping[str, Tensor], state: Tensor | None = None) -> Pair:
        wide = {n: x.double() for n, x in inputs.items()}
        states = None if state is None else {"S": state.double()}
        outputs, finals = run(recurrence, wide, initial_state=states)
        return outputs["o"], finals["S"]

    def error(x: Tensor, exact: Tensor) -> float:
        return ((x.double() - exact).norm() / exact.norm()).item()

    tokens, sequence = draw(shape, STEPS), draw(shape, shape.oracle_tokens)
    wanted, after = oracle(tokens, drawn_state(shape)), oracle(sequence)
    found: dict[str, dict[str, float]] = {}
    for name, decoder in decoders(shape).items():
        steps = zip(*(x.split(1, 1) for x in tokens.values()), strict=True)
        output = torch.cat([decoder(*token) for token in steps], 1)
        prefill = prefills()[name](*sequence.values())
        found[name] = {
            "decode o": error(output, wanted[0]),
            "decode state": error(decoder.state, wanted[1]),
            "prefill o": error(prefill[0], after[0]),
            "prefill state": error(prefill[1], after[1]),
        }
    return found


def report(result: Mapping[str, Any]) -> None:
    """Prints times and errors as tables."""
    shape, machine = result["shape"], result["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    print(f"{machine['cpu']}, {machine['threads']} threads, {versions}")
    print(
        f"B {shape['batch']}, T {shape['tokens']} in prefill, {shape['key_heads']} heads of q "
        f"and k, {shape['value_heads']} of v, K {shape['key']}, V {shape['value']}, float32; "
        f"load average {result['load_before']} before, {result['load_after']} after"
    )
    print(f"\n{'median, ms':<14}  {'lincodegen':>10}  {'transformers':>12}  {'ratio':>5}")
    for kind, row in result["times"].items():
        ours, theirs = (1e3 * row[n]["median_s"] for n in ("lincodegen", "transformers"))
        print(f"{kind:<14}  {ours:>10.3f}  {theirs:>12.3f}  {row['ratio']:>5.2f}")
    print(f"\n{'error':<14}  {'lincodegen':>10}  {'transformers':>12}")
    mine, other = result["errors"]["lincodegen"], result["errors"]["transformers"]
    for name in mine:
        print(f"{name:<14}  {mine[name]:>10.2e}  {other[name]:>12.2e}")


def main() -> int:
    """Measures, prints and writes; 1 if the generated form falls behind."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="sequences")
    parser.add_argument("--tokens", type=int, default=200, help="tokens")
    parser.add_argument("--out", type=Path, help="JSON; with --quick none is written without it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    shape = QUICK if options.quick else FULL
    before = load_average()
    measured = times(shape, options.repeats, options.tokens)
    result: dict[str, Any] = {
        "shape": asdict(shape),
        "dtype": "float32",
        "load_before": before,
        "load_after": load_average(),
        "times": measured,
        "errors": errors(shape),
        "provenance": provenance(("torch", "transformers"), MEASURED),
    }
    report(result)
    path = options.out or (None if options.quick else RESULT)
    if path is not None:
        write(path, result)
    mine, other = result["errors"]["lincodegen"], result["errors"]["transformers"]
    # sums of K products in float32 differ by so much in any order
    bound = ROUNDING * shape.key**0.5
    worse = any(mine[name] > max(other[name], bound) + ROUNDING for name in mine)
    slower = not options.quick and measured["decode"]["ratio"] < 1.0
    return int(worse or slower)


if __name__ == "__main__":
    sys.exit(main())
