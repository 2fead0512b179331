"""The time of a launch from its work and bytes: the longest of four limits.

    memory         bytes, each tensor once, at the bandwidth
    tensor cores   products at the rate of their dtype
    issue          float32 operations, and exponentials, at the rate of their lanes
    serial chain   rounds of programs * chunks of a sequence * products of a chunk * latency of one

Two programs on a multiprocessor fill each other's gaps; in a single one products and the arithmetic
between them take turns, so that their times add up. Nothing here was fitted to a measurement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import correlation

from lincodegen.cost.work import Work
from lincodegen.targets import Target

MEMORY, MATRIX, ISSUE, SERIAL = "memory", "tensor cores", "issue", "serial chain"


@dataclass(frozen=True, slots=True)
class Load:
    """What a launch asks of a target.

    Attributes:
        bytes: each tensor once.
        work: what all programs compute.
        programs: of the launch.
        resident: programs on a multiprocessor at a time; None if unknown.
        chain: products of one sequence that wait for each other, 0 if there is no scan.
        rounds: times over that the multiprocessors are filled; None if unknown.
    """

    bytes: int
    work: Work
    programs: int
    resident: int | None
    chain: int
    rounds: int | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds of a launch, which limit sets them, and every limit by name.

    None stands for what the target's file has no figure for; it is left out of ``seconds``.
    """

    seconds: float
    limit: str
    limits: Mapping[str, float | None]


def predict(load: Load, target: Target) -> Prediction:
    """The time of a launch."""
    busy = _busy(load.programs, target)
    matrix = load.work.matrix - load.work.dots.get("fp32", 0)
    products = matrix / (target.reached_bf16 or target.peak_bf16) / busy
    limits = {
        MEMORY: load.bytes / (target.reached_bandwidth or target.memory_bandwidth),
        MATRIX: products,
        ISSUE: _issue(load.work, target, busy),
        SERIAL: _serial(load, target),
    }
    known = {name: seconds for name, seconds in limits.items() if seconds is not None}
    limit = max(known, key=lambda name: known[name])
    seconds = known[limit]
    between = limits[ISSUE] or 0.0
    if (load.resident or 1) < 2 and products + between > seconds:
        limit, seconds = MATRIX if products >= between else ISSUE, products + between
    return Prediction(seconds, limit, limits)


def _busy(programs: int, target: Target) -> float:
    """The share of the multiprocessors' time that has work, of the one with the most programs."""
    most = -(-programs // target.multiprocessors)
    return programs / (target.multiprocessors * most)


def _issue(work: Work, target: Target, busy: float) -> float | None:
    """Seconds of arithmetic outside of tensor cores; float32 products are such."""
    if target.clock is None or target.fp32_lanes is None:
        return None
    cycles = target.clock * target.multiprocessors * busy
    fused = work.dots.get("fp32", 0) / 2
    seconds = (work.vector + fused) / (cycles * target.fp32_lanes)
    if target.exp2_lanes is None:
        return seconds
    return max(seconds, work.exp2 / (cycles * target.exp2_lanes))


def _serial(load: Load, target: Target) -> float | None:
    if load.chain == 0:
        return 0.0
    if target.dot_latency is None or load.rounds is None:
        return None
    return load.rounds * load.chain * target.dot_latency


def rank_correlation(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """Spearman's rank correlation of predictions with measured times, in [-1, 1].

    Raises:
        ValueError: the lengths differ, there are fewer than two, or one side is constant.
    """
    if len(predicted) != len(measured):
        raise ValueError(f"{len(predicted)} predictions and {len(measured)} times: expected pairs")
    if len(predicted) < 2 or len({*predicted}) < 2 or len({*measured}) < 2:
        raise ValueError("a rank correlation needs two pairs or more, that differ on both sides")
    return correlation(_ranks(predicted), _ranks(measured))


def _ranks(values: Sequence[float]) -> list[float]:
    """The place of each value in ascending order; equal ones share the mean of theirs."""
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    return [sum(places[v]) / len(places[v]) for v in values]
