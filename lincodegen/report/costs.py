"""What the kernels move and compute, and how long that is predicted to take, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lincodegen.cost.model import DirectionCost, KernelLaunch, LaunchCost, OpCost
from lincodegen.cost.predict import ISSUE, MATRIX, MEMORY, SERIAL
from lincodegen.cost.traffic import Access
from lincodegen.report.charts import Bar, Words, bar_chart
from lincodegen.report.roofline import Point, Roof, roofline
from lincodegen.report.tables import (
    MISSING,
    Table,
    figure,
    milliseconds,
    scaled,
    short_name,
    table,
)
from lincodegen.targets import Target

if TYPE_CHECKING:
    from markupsafe import Markup

KINDS = {MEMORY: "memory", MATRIX: "matrix", ISSUE: "issue", SERIAL: "serial"}
"""The class of a bar's colour, by what limits a kernel."""
EXPONENTIALS = "exponentials"

_WORK = (
    "kernel",
    "bytes",
    "bytes with re-reads",
    "matrix FLOP, 16 bit",
    "matrix FLOP, float32",
    "vector operations",
    "exp2",
)
_TIME = ("kernel", "memory", "tensor cores", "issue", "serial chain", "predicted", "limited by")
_SETTING = (
    "kernel",
    "chunk",
    "tile K × V",
    "warps",
    "stages",
    "programs",
    "per multiprocessor",
    "rounds",
)
_TARGETS = (
    "GPU",
    "architecture",
    "forward",
    "backward",
    "both",
    "roof",
    "share of the roof",
    "limits left out",
)


@dataclass(frozen=True, slots=True)
class Direction:
    """The forward or the backward: its kernels' work, settings, times and tensors."""

    name: str
    kernels: int
    bytes: str
    least: str
    ratio: str
    predicted: str
    roof: str
    share: str
    chart: Markup
    work: Table
    settings: Table
    times: Table
    tensors: Table


@dataclass(frozen=True, slots=True)
class Costs:
    """What the page says of an op's cost on one target, and in short on every other.

    ``reached`` tells that the roof is what devices reach, not what a data sheet names.
    """

    target: Target
    device: str
    call: str
    predicted: str
    bandwidth: str
    flops: str
    reached: bool
    directions: tuple[Direction, ...]
    roofline: Markup
    points: Table
    targets: Table
    notes: tuple[str, ...]


def cost_view(cost: OpCost, others: Sequence[OpCost]) -> Costs:
    """The tables and charts of a cost; ``others`` are those of every target."""
    target, roof = cost.target, _roof(cost.target)
    points = tuple(_points(cost))
    return Costs(
        target,
        short_name(target.device),
        _call(cost),
        milliseconds(sum(d.seconds for d in cost.directions)),
        scaled(roof.bandwidth, "B/s"),
        scaled(roof.flops, "FLOP/s"),
        target.reached_bandwidth is not None and target.reached_bf16 is not None,
        tuple(_direction(cost, d) for d in cost.directions),
        roofline(_roofline_words(cost), roof, points),
        _points_table(points, roof),
        table(_TARGETS, map(_target_row, others), (0, 1, len(_TARGETS) - 1)),
        cost.notes,
    )


def _call(cost: OpCost) -> str:
    sizes = cost.sizes
    dims = "".join(f", {name} = {size}" for name, size in sorted(sizes.dims.items()))
    return (
        f"{sizes.batch} sequences of {sizes.tokens:,} tokens, {sizes.heads} heads, "
        f"{sizes.size} channels{dims}, {sizes.dtype}"
    )


def _roof(target: Target) -> Roof:
    return Roof(
        target.reached_bandwidth or target.memory_bandwidth,
        target.reached_bf16 or target.peak_bf16,
    )


# -- one direction ----------------------------------------------------------------------------


def _direction(cost: OpCost, d: DirectionCost) -> Direction:
    n = cost.sizes.token_heads
    kernels = [x.kernel for x in d.kernels if x.kernel]
    named = list(zip([x.label for x in d.kernels], kernels, strict=True))
    work = [_work_row(x, n) for x in d.launches]
    total = ("total", figure(d.bytes / n), figure(d.moved / n), *[""] * (len(_WORK) - 3))
    times = [_time_row(x) for x in d.launches]
    all_times = ("total", *[""] * (len(_TIME) - 3), milliseconds(d.seconds), "")
    return Direction(
        d.name,
        len(kernels),
        figure(d.bytes / n),
        figure(d.least_bytes / n),
        f"{d.bytes / d.least_bytes:.2f}",
        milliseconds(d.seconds),
        milliseconds(d.roof),
        f"{d.roof / d.seconds:.0%}",
        _times_chart(cost, d),
        table(_WORK, [*work, total]),
        table(_SETTING, [_setting_row(label, k) for label, k in named]),
        table(_TIME, [*times, all_times], (0, len(_TIME) - 1)),
        table(("kernel", "reads", "writes"), [_tensor_row(x, n) for x in d.launches], (0, 1, 2)),
    )


def _label(launch: LaunchCost) -> str:
    return launch.label if launch.kernel else f"{launch.label} (PyTorch)"


def _work_row(launch: LaunchCost, n: int) -> tuple[str, ...]:
    sizes = (figure(launch.bytes / n), figure(launch.moved / n))
    if launch.kernel is None:
        return (_label(launch), *sizes, *[MISSING] * 4)
    work = launch.kernel.executed
    single = work.dots.get("fp32", 0)
    counts = (work.matrix - single, single, work.vector, work.exp2)
    return (_label(launch), *sizes, *(figure(count / n) for count in counts))


def _setting_row(label: str, kernel: KernelLaunch) -> tuple[str, ...]:
    c = kernel.default.config
    tiles = f"{c.tile_k} × {c.tile_v}"
    place = [MISSING if x is None else f"{x:,}" for x in (kernel.resident, kernel.rounds)]
    counts = (str(c.num_warps), str(c.num_stages), f"{kernel.programs:,}", *place)
    return (label, str(c.chunk_size), tiles, *counts)


def _time_row(launch: LaunchCost) -> tuple[str, ...]:
    limits = (launch.time.limits.get(name) for name in (MEMORY, MATRIX, ISSUE, SERIAL))
    cells = [milliseconds(seconds) for seconds in limits]
    return (_label(launch), *cells, milliseconds(launch.time.seconds), launch.time.limit)


def _tensor_row(launch: LaunchCost, n: int) -> tuple[str, ...]:
    reads = (a for a in launch.accesses if not a.written)
    writes = (a for a in launch.accesses if a.written)
    return (_label(launch), _tensors(reads, n), _tensors(writes, n))


def _tensors(accesses: Iterable[Access], n: int) -> str:
    texts: list[str] = []
    for a in accesses:
        again = f" (× {a.moved // a.bytes})" if a.moved > a.bytes else ""
        texts.append(f"{a.tensor} {figure(a.bytes / n)}{again}")
    return ", ".join(texts) or MISSING


# -- charts and other targets -----------------------------------------------------------------


def _times_chart(cost: OpCost, direction: DirectionCost) -> Markup:
    """Bars of one direction, on the scale of both."""
    bars = [
        Bar(x.label, x.time.seconds, f"{milliseconds(x.time.seconds)} ms", KINDS[x.time.limit])
        for x in direction.launches
    ]
    listed = "; ".join(f"{bar.label} {bar.shown}" for bar in bars)
    title = f"Predicted time of every kernel of the {direction.name}"
    words = Words(f"{direction.name}-times", title, f"{listed}.")
    longest = max(x.time.seconds for d in cost.directions for x in d.launches)
    return bar_chart(words, bars, longest)


def _points(cost: OpCost) -> Iterable[Point]:
    for d in cost.directions:
        for x in d.kernels:
            flops = x.kernel.once.matrix if x.kernel else 0
            if flops:
                yield Point(x.label, flops, x.bytes, x.time.seconds, KINDS[x.time.limit])


def _roofline_words(cost: OpCost) -> Words:
    title = f"Predicted roofline of {cost.op} on {short_name(cost.target.device)}"
    return Words("roofline", title, "Its points are the rows of the table below it.")


def _points_table(points: Sequence[Point], roof: Roof) -> Table:
    head = ("point", "kernel", "FLOP per byte", "predicted rate", "roof there", "share")
    rows = [
        (
            str(number),
            p.label,
            figure(p.intensity),
            scaled(p.rate, "FLOP/s"),
            scaled(roof.at(p.intensity), "FLOP/s"),
            f"{p.rate / roof.at(p.intensity):.0%}",
        )
        for number, p in enumerate(points, start=1)
    ]
    return table(head, rows, (0, 1))


def _target_row(cost: OpCost) -> tuple[str, ...]:
    seconds = [d.seconds for d in cost.directions]
    roof = sum(d.roof for d in cost.directions)
    times = (milliseconds(s) for s in (*seconds, sum(seconds), roof))
    share = f"{roof / sum(seconds):.0%}"
    return (short_name(cost.target.device), cost.target.name, *times, share, _untimed(cost))


def _untimed(cost: OpCost) -> str:
    """The limits for which a target's file has no rate, or no compile is on record."""
    limits = [x.time.limits for d in cost.directions for x in d.kernels]
    names = [name for name in KINDS if any(found.get(name) is None for found in limits)]
    names += [EXPONENTIALS] if cost.target.exp2_lanes is None and ISSUE not in names else []
    return ", ".join(names) or "none"
