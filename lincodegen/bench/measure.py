"""Times of alternatives, run in turns so that a disturbance meets all of them.

``call`` is the time from the call to its result, the host's work included; ``kernels``, on CUDA
alone, is that of the same work replayed as a graph. The clocks are those of `lincodegen.tune`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from lincodegen.tune.clock import WARM_UPS, CpuClock, CudaClock
from lincodegen.tune.measure import times_of
from lincodegen.tune.records import Times

Run = Callable[[], object]
Watch = Callable[[], float]
"""Runs once and gives its seconds."""
Timing = Literal["call", "kernels"]
PATIENCE, FEWEST = 10, 3


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each alternative is run: ``seconds`` in all, between ``least`` and ``most`` runs.

    One that takes ``PATIENCE`` times as long is run ``FEWEST`` times.
    """

    seconds: float = 0.5
    least: int = 5
    most: int = 50


def timings(device: torch.device) -> tuple[Timing, ...]:
    """What can be timed on a device."""
    return ("kernels", "call") if device.type == "cuda" else ("call",)


def watch(run: Run, timing: Timing, device: torch.device) -> Watch:
    """A clock for a run, warmed up.

    Raises:
        RuntimeError: the run cannot be captured as a graph.
    """
    if device.type != "cuda":
        # one run can take seconds there
        clock, timed, warm_ups = CpuClock(), run, 1
    elif timing == "kernels":
        clock, timed, warm_ups = CudaClock(device), _captured(run).replay, WARM_UPS
    else:
        clock, timed, warm_ups = CudaClock(device, host=True), run, WARM_UPS
    clock(timed, 0, warm_ups)
    return lambda: clock(timed, 1, 0)[0]


def alternate(
    watches: Mapping[str, Watch], effort: Effort, deadline: float | None = None
) -> dict[str, Times | Exception]:
    """Times by name, or the error that a run ended with.

    Args:
        watches: by name of the alternative.
        effort: runs of each; those that have had theirs drop out of the turns.
        deadline: of ``time.monotonic``; past it no further turn begins after the first.
    """
    samples: dict[str, list[float]] = {name: [] for name in watches}
    failed: dict[str, Exception] = {}
    gc.collect()
    gc.disable()
    try:
        waiting = list(watches)
        while waiting:
            for name in waiting:
                try:
                    samples[name].append(watches[name]())
                except Exception as error:
                    failed[name] = error
            late = deadline is not None and time.monotonic() > deadline
            waiting = [
                n for n in waiting if not late and n not in failed and _goes_on(samples[n], effort)
            ]
    finally:
        gc.enable()
    return {n: failed[n] if n in failed else times_of(samples[n]) for n in watches}


def _goes_on(samples: Sequence[float], effort: Effort) -> bool:
    if len(samples) < effort.least:
        return len(samples) < FEWEST or sum(samples) < PATIENCE * effort.seconds
    return len(samples) < effort.most and sum(samples) < effort.seconds


def _captured(run: Run) -> torch.cuda.CUDAGraph:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph
