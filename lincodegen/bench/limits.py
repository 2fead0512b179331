"""What the device reaches by itself, and what a call needs at least."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from lincodegen import pipeline
from lincodegen.bench.shapes import KEY_TENSORS, Work
from lincodegen.cost.sizes import CallSizes
from lincodegen.spec.step import Recurrence
from lincodegen.targets import list_targets

PLAIN_TARGET = "sm_90"
"""Whose schedule's FLOPs are counted where the device has none of its own."""
PROBES = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """Measured: bytes a second that a copy reads and writes, FLOPs a second of a square product."""

    bandwidth: float
    matmul: float


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of what a call is given and returns, each once; FLOPs of the schedule's products.

    ``flops`` is None for one token, which has no products of matrices.
    """

    bytes: int
    flops: int | None

    def shares(self, seconds: float, limits: Limits) -> tuple[float, float | None]:
        """Parts of the measured bandwidth and matmul rate that a call of this time reaches."""
        matmul = None if self.flops is None else self.flops / seconds / limits.matmul
        return self.bytes / seconds / limits.bandwidth, matmul


def measure_limits(
    dtype: torch.dtype, device: torch.device, copied: int | None = None, side: int | None = None
) -> Limits:
    """The device's rates now; ``copied`` bytes are copied, ``side`` is that of the matrices."""
    gpu = device.type == "cuda"
    copied, side = copied or (1 << 30 if gpu else 1 << 27), side or (8192 if gpu else 1024)
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    goal = torch.empty_like(source)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    copy = _least(lambda: goal.copy_(source), device)
    product = _least(lambda: a @ b, device)
    return Limits(2 * copied / copy, 2 * side**3 / product)


def _least(run: Callable[[], object], device: torch.device) -> float:
    """The least of some times: a disturbance only adds to them."""
    found: list[float] = []
    for _ in range(PROBES):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)


def target_of(device: torch.device) -> str:
    """The listed target whose schedule counts the FLOPs."""
    if device.type != "cuda":
        return PLAIN_TARGET
    major, minor = torch.cuda.get_device_capability(device)
    name = f"sm_{major}{minor}"
    return name if name in list_targets() else PLAIN_TARGET


def needs_of(recurrence: Recurrence, work: Work, dtype: str, target: str) -> Needs | None:
    """What a call needs by the cost model; None if the recurrence runs token by token."""
    shape = work.shape
    sizes = CallSizes(shape.batch, shape.tokens, shape.heads, shape.size, dict(shape.dims), dtype)
    report = pipeline.cost_of(recurrence, target, asdict(sizes))
    if report is None:
        return None
    forward, backward = report.cost.directions
    counted = (forward, backward) if work.mode == "forward_backward" else (forward,)
    flops = sum(x.kernel.once.matrix for d in counted for x in d.kernels if x.kernel is not None)
    saved = _fewer_heads(recurrence, work, sizes)
    # the backward reads the inputs and writes their gradients
    least = sum(d.least_bytes for d in counted) - saved * (1 if len(counted) == 1 else 3)
    return Needs(least, None if work.mode == "decode" else flops)


def _fewer_heads(recurrence: Recurrence, work: Work, sizes: CallSizes) -> int:
    """Bytes of inputs that have fewer heads than the cost model counts."""
    shape = work.shape
    if shape.key_heads is None:
        return 0
    rows = shape.batch * shape.tokens * (shape.heads - shape.key_heads)
    names = [x for x in recurrence.inputs if x.name in KEY_TENSORS]
    return sum(rows * sizes.entries(x.shape) * sizes.operand_bytes for x in names)
