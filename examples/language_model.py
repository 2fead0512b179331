"""Trains a byte-level language model twice: on a generated op, and on its naive recurrence.

    python examples/language_model.py [--op NAME] [--steps N] [--quick]

The text is the source code of Python's standard library. Both models start from the same seed
and see the same batches; they differ in the token mixer alone: the chunked op, and the spec
run token by token under autograd. Prints the losses of both, their greatest difference, and
the time that each took. Exits with 1 if the losses differ by more than 1e-3.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mixer import Block, Mixer, Model, Size, shipped
from torch import Tensor
from torch.nn import functional

import lincodegen
from lincodegen.resources import specs_dir
from lincodegen.verify import naive_op

BYTES = 256
SEED = 0
TOLERANCE = 1e-3
TEXT_BYTES = 4_000_000
LEARNING_RATE = 2e-3
WARM_UP = 25
"""Steps to the full rate: without them rounding errors grow a thousandfold in ten steps."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Size of model and batch."""

    layers: int
    size: Size
    batch: int
    length: int


FULL = Setting(3, Size(width=128, heads=4, key=32, value=32, window=4), batch=8, length=256)
QUICK = Setting(2, Size(width=64, heads=2, key=16, value=32, window=4), batch=4, length=96)


def library_text(limit: int = TEXT_BYTES) -> Tensor:
    """Sources of the standard library, one after the other by name, as bytes."""
    folder = Path(os.__file__).resolve().parent
    text = bytearray()
    for path in sorted(folder.glob("*.py")) + sorted(folder.glob("*/*.py")):
        if "site-packages" not in path.parts and len(text) < limit:
            text += path.read_bytes()
    return torch.frombuffer(text[:limit], dtype=torch.uint8).long()


def batches(text: Tensor, setting: Setting, steps: int) -> Iterator[Tensor]:
    """[batch, length + 1] pieces from anywhere in the text, the same for every caller."""
    generator = torch.Generator().manual_seed(SEED)
    span = torch.arange(setting.length + 1)
    for _ in range(steps):
        starts = torch.randint(len(text) - len(span), (setting.batch, 1), generator=generator)
        yield text[starts + span]


def model_on(op: Callable[..., Any], name: str, setting: Setting) -> Model:
    """The model, from one seed whatever the op."""
    torch.manual_seed(SEED)
    size = setting.size
    blocks = [
        Block(Mixer(shipped(name), op, size), size.width, 2 * size.width)
        for _ in range(setting.layers)
    ]
    return Model(BYTES, BYTES, blocks, size.width)


def train(model: Model, pieces: Iterator[Tensor]) -> tuple[list[float], list[float]]:
    """Losses in nats a byte and seconds, one a step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1, (n + 1) / WARM_UP))
    losses, seconds = [], []
    for piece in pieces:
        start = time.perf_counter()
        logits = model(piece[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warm_up.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    return losses, seconds


def report(runs: dict[str, tuple[list[float], list[float]]]) -> float:
    """Prints losses and times by tenths of the run; the greatest difference of two losses."""
    (chunked, chunked_seconds), (naive, naive_seconds) = runs.values()
    steps = len(chunked)
    print(f"{'step':>6}  {'loss, op':>10}  {'loss, naive':>11}  {'difference':>10}", end="")
    print(f"  {'s, op':>8}  {'s, naive':>8}")
    done = 0
    for step in sorted({max(1, steps * tenth // 10) for tenth in range(1, 11)} | {1}):
        spent, naive_spent = sum(chunked_seconds[done:step]), sum(naive_seconds[done:step])
        a, b = chunked[step - 1], naive[step - 1]
        print(f"{step:>6}  {a:>10.5f}  {b:>11.5f}  {abs(a - b):>10.1e}", end="")
        print(f"  {spent:>8.2f}  {naive_spent:>8.2f}")
        done = step
    total, naive_total = sum(chunked_seconds), sum(naive_seconds)
    difference = max(abs(a - b) for a, b in zip(chunked, naive, strict=True))
    print(f"greatest difference of the losses over {steps} steps: {difference:.1e}")
    print(
        f"training time: op {total:.1f} s, naive recurrence {naive_total:.1f} s,"
        f" ratio {naive_total / total:.1f}"
    )
    return difference


def main() -> int:
    """Trains both models and compares them."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--op", default="gated_delta_rule", help="a shipped op with one output")
    parser.add_argument("--steps", type=int, default=None, help="50; 5 with --quick")
    parser.add_argument("--quick", action="store_true", help="a smaller model, fewer steps")
    options = parser.parse_args()
    setting = QUICK if options.quick else FULL
    steps = options.steps or (5 if options.quick else 50)
    text = library_text()
    naive = naive_op(shipped(options.op))
    ops = {"op": lincodegen.load(specs_dir() / f"{options.op}.yaml"), "naive": naive}
    models = {name: model_on(op, options.op, setting) for name, op in ops.items()}
    count = sum(p.numel() for p in models["op"].parameters())
    print(
        f"{options.op}: {setting.layers} layers, {count:,} parameters, {len(text):,} bytes,", end=""
    )
    print(f" batch {setting.batch} x {setting.length}, {torch.get_num_threads()} threads")
    runs = {name: train(m, batches(text, setting, steps)) for name, m in models.items()}
    return int(report(runs) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
