"""What a call of an op costs beside its computation: an eager forward with gradients.

    PYTHONPATH=. python benchmarks/wrapper_time.py [--out FILE]

The computation is replaced by one that returns tensors made before; what is left is the reading
of arguments, the zeros of an initial state and the node of the graph. ``bare`` is the time of a
``torch.autograd.Function`` that keeps the same tensors and does nothing else. The time is the
least of many batches of calls: a disturbance only adds to it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from timing import write
from torch import Tensor

from lincodegen.bench.provenance import provenance
from lincodegen.ops import gated_delta_rule
from lincodegen.runtime.function import Body

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx as Node

BATCHES, CALLS = 300, 20
B, T, H, K, V = 1, 64, 4, 16, 16


def microseconds(call: Callable[[], object]) -> float:
    """The least mean time of a call over batches."""
    best = float("inf")
    for _ in range(BATCHES):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, (time.perf_counter() - start) / CALLS)
    return best * 1e6


def inputs() -> tuple[Tensor, ...]:
    """Arguments that need gradients."""
    q, k, v = torch.randn(B, T, H, K), torch.randn(B, T, H, K), torch.randn(B, T, H, V)
    tensors = q, k, v, -torch.rand(B, T, H), torch.rand(B, T, H)
    return tuple(x.requires_grad_() for x in tensors)


def measure() -> dict[str, float]:
    """Microseconds of a call without its computation, and of a bare node."""
    module: Any = importlib.import_module(gated_delta_rule.__module__)
    given, output, state = inputs(), torch.randn(B, T, H, V), torch.randn(B, H, K, V)
    kept = tuple(torch.randn(3) for _ in range(4))

    class Bare(torch.autograd.Function):
        """Keeps its arguments."""

        @staticmethod
        def forward(ctx: Node, *arguments: Tensor) -> tuple[Tensor, ...]:
            ctx.save_for_backward(*arguments, *kept)
            return output.view_as(output), state.view_as(state)

        @staticmethod
        def backward(ctx: Node, *grads: Tensor) -> None:
            raise NotImplementedError

    body = module._BODY  # noqa: SLF001
    module._BODY = Body(  # noqa: SLF001
        lambda *_: ((output,), (state,), (kept,)), body.backward, body.recurrent
    )
    try:
        return {
            "call_us": microseconds(lambda: gated_delta_rule(*given)),
            "bare_us": microseconds(lambda: Bare.apply(*given)),
        }
    finally:
        module._BODY = body  # noqa: SLF001


def main() -> int:
    """Prints the times, and writes them if asked to."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure()
    print(f"call {found['call_us']:.1f} us, bare node {found['bare_us']:.1f} us")
    if options.out is not None:
        sources = ["benchmarks/wrapper_time.py", "generated/gated_delta_rule"]
        write(options.out, {"provenance": provenance(["torch"], sources), **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
