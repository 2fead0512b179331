"""How long a call takes on a device: events on CUDA, the processor's counter on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lincodegen.config import OpConfig
from lincodegen.errors import TuningError
from lincodegen.tune.gate import Subject, Work
from lincodegen.tune.judge import recurrence_in, subject_op, surroundings
from lincodegen.verify.call import call
from lincodegen.verify.domains import generator, typical
from lincodegen.verify.inputs import Geometry
from lincodegen.verify.layout import tensors_of

DRAWN_TOKENS = 64
"""Tokens that are drawn; longer inputs repeat them, since values do not change the time."""
WARM_UPS = 3
_FLUSHED_BYTES = 256 << 20


class Clock(Protocol):
    """Times runs one by one."""

    def __call__(
        self, run: Callable[[], object], repeats: int, warm_ups: int = WARM_UPS
    ) -> list[float]:
        """Seconds of each run, after some that do not count."""
        ...


class CpuClock:
    """Wall-clock seconds of a call; its result is dropped before the clock stops."""

    def __call__(
        self, run: Callable[[], object], repeats: int, warm_ups: int = WARM_UPS
    ) -> list[float]:
        """Seconds of each run, after some that do not count."""
        for _ in range(warm_ups):
            run()
        found: list[float] = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
        return found


class CudaClock:
    """Seconds on the device, the second-level cache emptied before each run.

    Args:
        device: whose cache is emptied.
        host: whether the host's work counts: wall-clock seconds from the call to its result,
            where else they are those between two events.
    """

    def __init__(self, device: torch.device, *, host: bool = False) -> None:
        self._device, self._host = device, host
        self._flushed = torch.empty(_FLUSHED_BYTES, dtype=torch.uint8, device=device)

    def __call__(
        self, run: Callable[[], object], repeats: int, warm_ups: int = WARM_UPS
    ) -> list[float]:
        """Seconds of each run, after some that do not count.

        Raises:
            TuningError: a CUDA graph is being captured; nothing may be timed then.
        """
        if torch.cuda.is_current_stream_capturing():
            raise TuningError("a CUDA graph is being captured: nothing is timed inside it")
        for _ in range(warm_ups):
            run()
        if self._host:
            return [self._until_done(run) for _ in range(repeats)]
        pairs = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            for _ in range(repeats)
        ]
        for start, end in pairs:
            self._flushed.zero_()
            start.record()
            run()
            end.record()
        torch.cuda.synchronize(self._device)
        return [start.elapsed_time(end) * 1e-3 for start, end in pairs]

    def _until_done(self, run: Callable[[], object]) -> float:
        self._flushed.zero_()
        torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        run()
        torch.cuda.synchronize(self._device)
        return time.perf_counter() - start


def clock_of(device: torch.device) -> Clock:
    """The clock of a device."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()


@dataclass(frozen=True, slots=True)
class Bench:
    """The inputs of one call, and a clock.

    ``tensors`` are those of the op by name, [1, T, H, *shape] and [H, *shape].
    """

    subject: Subject
    work: Work
    tensors: dict[str, Tensor]
    clock: Clock
    cotangents: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @staticmethod
    def of(subject: Subject, work: Work) -> Bench:
        """Typical inputs, drawn for a few tokens and repeated."""
        recurrence = recurrence_in(subject.folder)
        tokens = min(work.tokens, DRAWN_TOKENS)
        geometry = Geometry(subject.sizes, tokens, batch=1, heads=work.heads)
        tensors: dict[str, Tensor] = {}
        for x in tensors_of(recurrence):
            drawn = typical(x, geometry.shape(recurrence, x), generator(work.seed, x.name))
            drawn = drawn.to(subject.device, getattr(torch, subject.dtype))
            if x in recurrence.inputs:
                turns = [1, -(-work.tokens // tokens), *(1 for _ in drawn.shape[2:])]
                drawn = drawn.repeat(turns)[:, : work.tokens].contiguous()
            tensors[x.name] = drawn.requires_grad_(work.backward)
        return Bench(subject, work, tensors, clock_of(torch.device(subject.device)))

    def times(self, config: OpConfig | None, repeats: int) -> list[float]:
        """Seconds of each run of a candidate."""
        recurrence = recurrence_in(self.subject.folder)
        op = subject_op(self.subject, config)
        leaves = list(self.tensors.values())

        def run() -> None:
            outputs, finals = call(recurrence, op, self.tensors)
            if self.work.backward:
                results = [*outputs.values(), *finals.values()]
                given = [self._cotangent(i, y) for i, y in enumerate(results)]
                torch.autograd.grad(results, leaves, given, allow_unused=True)

        with surroundings(self.subject, config):
            return self.clock(run, repeats)

    def _cotangent(self, index: int, y: Tensor) -> Tensor:
        key = str(index)
        if key not in self.cotangents:
            self.cotangents[key] = torch.ones_like(y)
        return self.cotangents[key]
