"""The few configurations of each kernel that are worth a trial, and the search space over them.

A point of the space names a chunk, a schedule, and for each kernel the rank of one of its options,
the most promising at 0: whoever ranks them, a search over ranks knows which way is better.

What a kernel's text settles is no parameter: how a triangular matrix is inverted, the precision of
dots, what is kept for the backward, where a scale is applied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import combinations, product
from math import comb

from lincodegen.config import Config, OpConfig
from lincodegen.schedule.space import Parameter
from lincodegen.tune.records import Resources
from lincodegen.tune.search import Point, Space

POINTS = 30_000
"""Most points of a space."""
SCHEDULES: tuple[tuple[str, int], ...] = (
    ("scan", 0),
    *(("segment", chunks) for chunks in (64, 32, 16, 8)),
    ("split", 0),
)
"""Schedules and the chunks of their segments, the one with the longest scans first."""
_IDLE = {"scan": "output_fwd", "segment": "output_fwd", "split": "scan_fwd"}
"""The kernel that a schedule does not launch, by the end of its label."""


@dataclass(frozen=True, slots=True)
class Option:
    """A configuration of one kernel and what it needs, as the compiler or an estimate has it."""

    config: Config
    needs: Resources


Options = Mapping[str, tuple[Option, ...]]
"""The options of every kernel by label, the most promising first."""


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The options of an op's kernels by the tokens of a chunk.

    Attributes:
        chunks: the most promising chunk first.
        schedules: of `SCHEDULES`.
    """

    op: str
    chunks: Mapping[int, Options]
    schedules: tuple[tuple[str, int], ...] = SCHEDULES

    def for_call(self, heads: int, tokens: int, multiprocessors: int) -> Shortlist:
        """The options with what schedules may help a call: segments only of few heads' sequences.

        With two segments a sequence is summarised and scanned in as many steps as one whole scan.
        """
        chunks = tokens // min(self.chunks)
        few = heads < multiprocessors
        kept = ((n, size) for n, size in self.schedules if not size or (few and chunks >= 3 * size))
        return replace(self, schedules=tuple(kept))

    @property
    def labels(self) -> tuple[str, ...]:
        """The kernels, ascending."""
        return tuple(sorted({label for options in self.chunks.values() for label in options}))

    def space(self) -> Space:
        """The points; where they are too many, those with few kernels off their first option."""
        labels, sizes = self.labels, sorted(self.chunks)
        depth = max(len(o) for options in self.chunks.values() for o in options.values())
        parameters = (
            Parameter("chunk_size", tuple(sizes)),
            Parameter("schedule", tuple(range(len(self.schedules)))),
            *(Parameter(label, tuple(range(depth))) for label in labels),
        )
        heads = list(product(sizes, range(len(self.schedules))))
        points: list[Point] = []
        for changed in range(len(labels) + 1):
            more = comb(len(labels), changed) * (depth - 1) ** changed * len(heads)
            if len(points) + more > POINTS:
                break
            points += [
                (*head, *ranks) for head in heads for ranks in _off(len(labels), changed, depth)
            ]
        return Space(parameters, tuple(sorted(filter(self._admits, points))))

    def config(self, point: Point) -> OpConfig:
        """The configuration of a point."""
        size, schedule, *ranks = point
        options = self.chunks[size]
        chosen = tuple(
            (label, options[label][rank].config)
            for label, rank in zip(self.labels, ranks, strict=True)
        )
        name, segment = self.schedules[schedule]
        return OpConfig(size, chosen, name, segment)

    def needs(self, config: OpConfig) -> Resources:
        """The most that any kernel of a configuration needs."""
        options = self.chunks[config.chunk_size]
        found = [
            option.needs
            for label, chosen in config.kernels
            for option in options[label]
            if option.config == chosen
        ]
        return Resources(
            max((n.shared_bytes for n in found), default=0),
            max((n.registers for n in found), default=0),
            max((n.stack_bytes for n in found), default=0),
        )

    def starts(self) -> tuple[Point, ...]:
        """The best ranks of chunks and schedules, then one kernel changed at a time.

        The longest and the shortest scans with every chunk, the others with the best one.
        """
        count = len(self.labels)
        best, last = next(iter(self.chunks)), len(self.schedules) - 1
        first = [(size, s, *[0] * count) for size in self.chunks for s in dict.fromkeys((0, last))]
        first += [(best, s, *[0] * count) for s in range(1, last)]
        single = [
            (best, 0, *(1 if i == j else 0 for j in range(count)))
            for i, label in enumerate(self.labels)
            if len(self.chunks[best][label]) > 1
        ]
        return tuple(p for p in (*first, *single) if self._admits(p))

    def nearest(self, config: OpConfig) -> Point | None:
        """The point next to a configuration of other calls or of another device.

        None where the chunk, the schedule or a kernel is none of these.
        """
        asked = dict(config.kernels)
        options = self.chunks.get(config.chunk_size, {})
        schedule = config.schedule or "", config.segment_chunks
        if schedule not in self.schedules or asked.keys() != options.keys():
            return None
        ranks = (_closest(options[label], asked[label]) for label in self.labels)
        point = config.chunk_size, self.schedules.index(schedule), *ranks
        return point if self._admits(point) else None

    def _admits(self, point: Point) -> bool:
        """Whether every rank is one, and kernels that are not launched have their first."""
        size, schedule, *ranks = point
        idle = _IDLE.get(self.schedules[schedule][0], "")
        options = self.chunks[size]
        return all(
            rank < len(options[label]) and not (rank and label.endswith(idle))
            for label, rank in zip(self.labels, ranks, strict=True)
        )


def _off(count: int, changed: int, depth: int) -> Iterator[tuple[int, ...]]:
    """Ranks of ``count`` kernels of which just so many are not 0."""
    for places in combinations(range(count), changed):
        for values in product(range(1, depth), repeat=changed):
            ranks = dict(zip(places, values, strict=True))
            yield tuple(ranks.get(i, 0) for i in range(count))


def _closest(options: Sequence[Option], wanted: Config) -> int:
    """The rank of the option with the fewest doublings between its values and those wanted."""

    def steps(rank: int) -> float:
        pairs = zip(astuple(options[rank].config), astuple(wanted), strict=True)
        return sum(_apart(a, b) for a, b in pairs)

    return min(range(len(options)), key=steps)


def _apart(value: int, wanted: int) -> float:
    """Doublings between two values; one where one of two ways is another."""
    if isinstance(value, bool):
        return float(value != wanted)
    return abs(math.log2(value / wanted))


def in_proportion(known: Resources, base: Config, config: Config) -> Resources:
    """What a kernel needs at other tiles, if shared memory grows as tiles and stages do."""
    area = (config.tile_k * config.tile_v) / (base.tile_k * base.tile_v)
    rows = config.chunk_size / base.chunk_size
    stages = config.num_stages / base.num_stages
    scale = math.sqrt(area) * rows * stages
    return Resources(round(known.shared_bytes * scale), known.registers, known.stack_bytes)
