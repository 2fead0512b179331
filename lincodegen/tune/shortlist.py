"""The few configurations of each kernel that are worth a trial, and the search space over them.

A point of the space names a chunk, a schedule, the precision of float32 products, how triangular
matrices are inverted, what is kept for the backward, and for each kernel the rank of one of its
options, the most promising at 0: whoever ranks them, a search over ranks knows which way is better.
What has one value only is no parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import comb
from typing import Any

from lincodegen.config import KEPT, ORDERS, SCALES, Config, OpConfig
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
FAST_KEEPS = (KEPT, "states")
"""What may be kept without making a call slower."""
WAYS: tuple[Mapping[str, Any], ...] = (
    {"descriptors": True},
    {"scales": SCALES[1]},
    {"order": ORDERS[1]},
)
"""What may be changed of a configuration beside its tiles, one thing at a time."""
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
        precisions: those of the options, the fastest last; the same of all kernels of a point.
        inverses: of the kernels that invert, likewise; options of the others have None.
        keeps: of `lincodegen.config.KEEPS`; ``states`` is tried under ``split`` alone.
    """

    op: str
    chunks: Mapping[int, Options]
    schedules: tuple[tuple[str, int], ...] = SCHEDULES
    precisions: tuple[str | None, ...] = (None,)
    inverses: tuple[str | None, ...] = (None,)
    keeps: tuple[str, ...] = (KEPT,)

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
        labels = self.labels
        wide = {"schedule": len(self.schedules)} | {n: len(v) for n, v in self._wide().items()}
        every = product(sorted(self.chunks), *map(range, wide.values()))
        limits = {head: limit for head in every if all(limit := self._limits(head))}
        heads = list(limits)
        depth = max(max(limit) for limit in limits.values())
        parameters = (
            Parameter("chunk_size", tuple(sorted(self.chunks))),
            *(Parameter(name, tuple(range(count))) for name, count in wide.items()),
            *(Parameter(label, tuple(range(depth))) for label in labels),
        )
        points: list[Point] = []
        tried = 0
        for changed in range(len(labels) + 1):
            tried += comb(len(labels), changed) * (depth - 1) ** changed * len(heads)
            if tried > POINTS:
                break
            points += [
                (*head, *ranks)
                for head, ranks in product(heads, list(_off(len(labels), changed, depth)))
                if _within(ranks, limits[head])
            ]
        return Space(parameters, tuple(sorted(points)))

    def config(self, point: Point) -> OpConfig:
        """The configuration of a point."""
        head, ranks = self._parts(point)
        options = self._options(head)
        chosen = tuple(
            (label, options[label][rank].config)
            for label, rank in zip(self.labels, ranks, strict=True)
        )
        name, segment = self.schedules[head[1]]
        keep = self._named(head).get("keep") or KEPT
        return OpConfig(head[0], chosen, name, segment, keep=keep)

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
        """The best ranks of chunks and schedules, then one other value at a time.

        The longest and the shortest scans with every chunk, the others with the best one.
        """
        wide = list(self._wide().values())
        count = len(wide) + len(self.labels)
        best, last = next(iter(self.chunks)), len(self.schedules) - 1
        first = [(size, s, *[0] * count) for size in self.chunks for s in dict.fromkeys((0, last))]
        first += [(best, s, *[0] * count) for s in range(1, last)]
        most = [len(values) for values in wide] + [2] * len(self.labels)
        kept = [i for i, name in enumerate(self._wide()) if name == "keep"]
        single = [
            (best, schedule, *(rank if i == j else 0 for j in range(count)))
            for i in range(count)
            for rank in range(1, most[i])
            for schedule in ((last,) if i in kept else (0,))
        ]
        return tuple(p for p in (*first, *single) if self._admits(p))

    def nearest(self, config: OpConfig) -> Point | None:
        """The point next to a configuration of other calls or of another device.

        None where the chunk, the schedule or a kernel is none of these.
        """
        asked = dict(config.kernels)
        schedule = config.schedule or "", config.segment_chunks
        known = self.chunks.get(config.chunk_size, {})
        if schedule not in self.schedules or asked.keys() != known.keys():
            return None
        chosen = {n: [getattr(c, n) for c in asked.values()] for n in ("precision", "inverse")}
        chosen["keep"] = [config.keep]
        wide = [_rank(values, *chosen[name]) for name, values in self._wide().items()]
        head = config.chunk_size, self.schedules.index(schedule), *wide
        options = self._options(head)
        if not all(options.values()):
            return None
        point = *head, *(_closest(options[label], asked[label]) for label in self.labels)
        return point if self._admits(point) else None

    def _wide(self) -> dict[str, tuple[str | None, ...]]:
        """What all kernels of a point have in common beside chunk and schedule."""
        splits = any(name == "split" for name, _ in self.schedules)
        keeps = self.keeps if splits else (KEPT,)
        found = {"precision": self.precisions, "inverse": self.inverses, "keep": keeps}
        return {name: values for name, values in found.items() if len(values) > 1}

    def _named(self, head: Point) -> dict[str, str | None]:
        """The values of what all kernels have in common, but for chunk and schedule."""
        return {n: v[i] for (n, v), i in zip(self._wide().items(), head[2:], strict=True)}

    def _parts(self, point: Point) -> tuple[Point, Point]:
        """What all kernels have in common, and the rank of each."""
        end = len(point) - len(self.labels)
        return point[:end], point[end:]

    def _options(self, head: Point) -> dict[str, tuple[Option, ...]]:
        """The options of every kernel with what they have in common."""
        named = self._named(head)
        precision, inverse = named.get("precision"), named.get("inverse")
        return {
            label: tuple(
                o
                for o in every
                if o.config.precision == precision and o.config.inverse in (None, inverse)
            )
            for label, every in self.chunks[head[0]].items()
        }

    def _limits(self, head: Point) -> Point:
        """How many ranks each kernel has: one that is not launched only its first.

        None has any where more is to be kept than the schedule makes.
        """
        schedule = self.schedules[head[1]][0]
        if schedule != "split" and self._named(head).get("keep") == "states":
            return (0,) * len(self.labels)
        idle = _IDLE.get(schedule, "")
        options = self._options(head)
        counts = {label: len(options[label]) for label in self.labels}
        return tuple(min(n, 1) if label.endswith(idle) else n for label, n in counts.items())

    def _admits(self, point: Point) -> bool:
        head, ranks = self._parts(point)
        return _within(ranks, self._limits(head))


def _within(ranks: Point, limits: Point) -> bool:
    return all(rank < limit for rank, limit in zip(ranks, limits, strict=True))


def _rank(values: Sequence[str | None], *wanted: str | None) -> int:
    """The place of a value that was chosen elsewhere; the first one's where it is none of them."""
    return next((values.index(x) for x in wanted if x in values), 0)


def _off(count: int, changed: int, depth: int) -> Iterator[tuple[int, ...]]:
    """Ranks of ``count`` kernels of which just so many are not 0."""
    for places in combinations(range(count), changed):
        for values in product(range(1, depth), repeat=changed):
            ranks = dict(zip(places, values, strict=True))
            yield tuple(ranks.get(i, 0) for i in range(count))


def _closest(options: Sequence[Option], wanted: Config) -> int:
    """The rank of the option with the fewest doublings between its values and those wanted."""

    def steps(rank: int) -> float:
        config = options[rank].config
        pairs = zip(_numbers(config), _numbers(wanted), strict=True)
        others = sum(a != b for a, b in zip(config.way, wanted.way, strict=True))
        return others + sum(abs(math.log2(a / b)) for a, b in pairs)

    return min(range(len(options)), key=steps)


def _numbers(config: Config) -> tuple[int, ...]:
    return tuple(x for x in config if type(x) is int)


def in_proportion(known: Resources, base: Config, config: Config) -> Resources:
    """What a kernel needs at other tiles, if shared memory grows as tiles and stages do."""
    area = (config.tile_k * config.tile_v) / (base.tile_k * base.tile_v)
    rows = config.chunk_size / base.chunk_size
    stages = config.num_stages / base.num_stages
    scale = math.sqrt(area) * rows * stages
    return Resources(round(known.shared_bytes * scale), known.registers, known.stack_bytes)
