"""The tile program: one chunk of one head as operations over named axes.

    tile = load(operand)                 rows of an operand: [row], [row, k], [row, v]
         | log_decay(operand)            per token: [tok] or [tok, k]
         | carry(name)                   the state before the chunk, S_0, or d(state) after it
         | cotangent(read)               d(output rows) of a read
         | ein(x, y)                     sum over the axes that are not in the result
         | reduce(x) | broadcast(x)      sum over axes; repeat over axes
         | add(x, y) | scale(x; number) | factor(x; constant)     elementwise
         | rename(x; from -> to)         the same tile under other axis names
         | diagonal(x)                   the entries of [row, row] whose rows are of one token
         | alive(x, log decay)           x at tokens whose decay is no zero, there zero
         | decay(log decays; to, from, channel)
         | cover(W; to, from, slot, channel)
         | contract(x, y, log decays; to, from)
         | solve(N, R; transposed) | inverse(N)

Axes: ``k`` and ``v`` of the state; row axes ``m`` (events that read the state), ``w``
(plain writes), ``t0, t1 ...`` (reads), and their copies as columns, ``m'`` and so on;
``tok``, the tokens. A row axis holds its slots token-major: row = token * slots + slot.

``decay(to, from)`` is exp of the sum of the log decays between two points, a point being
``start``, ``end`` or a row axis' read or write point, or its first: that of its token's start.
Between two row points it carries the visibility mask: 0 where the write is not before the read.
Without log decays it is that mask. ``cover`` is its linear adjoint: for log decay ``slot``, the sum
of W over all pairs whose span covers it. ``contract`` is sum_k x[.,k] y[.,k] decay[.,.,k] or, by
its own adjoint, the sum over one of the row axes instead.

There are no branches, no pointers, no tile sizes, no dtypes. Tiles are hash-consed: equal
tiles of one graph are one object.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Axes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class At:
    """A point as a tile sees it: ``start``, ``end``, or (row axis, "read" | "write" | "first")."""

    axis: str
    moment: str = ""

    @property
    def border(self) -> bool:
        """Whether this is a border of the chunk rather than a row point."""
        return self.axis in ("start", "end")

    def __str__(self) -> str:
        return self.axis if self.border else f"{self.axis}.{self.moment}"


START, END = At("start"), At("end")


@dataclass(frozen=True, eq=False, slots=True)
class Tile:
    """One value. Compared by identity; made by a Graph only."""

    op: str
    args: tuple[Tile, ...]
    attr: tuple[Any, ...]
    axes: Axes
    id: int

    def __repr__(self) -> str:
        return f"%{self.id}:{self.op}[{', '.join(self.axes)}]"


@dataclass(slots=True)
class Graph:
    """Makes tiles, each once, and names them. Zero is None throughout."""

    tiles: dict[tuple[object, ...], Tile] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def make(
        self, op: str, args: Iterable[Tile] = (), attr: Iterable[Any] = (), axes: Axes = ()
    ) -> Tile:
        """The tile of this operation."""
        args, attr = tuple(args), tuple(attr)
        key = (op, tuple(a.id for a in args), attr, axes)
        if key not in self.tiles:
            self.tiles[key] = Tile(op, args, attr, axes, len(self.tiles))
        return self.tiles[key]

    def name(self, tile: Tile | None, name: str) -> Tile | None:
        """Names a tile, unless it has a name."""
        if tile is not None:
            self.names.setdefault(tile.id, name)
        return tile

    def ein(self, x: Tile | None, y: Tile | None, axes: Axes) -> Tile | None:
        """sum of x * y over the axes that are not in the result."""
        if x is None or y is None:
            return None
        return self.make("ein", (x, y), (), axes)

    def reduce(self, x: Tile | None, axes: Axes) -> Tile | None:
        """The sum over the axes that are not in the result."""
        if x is None or x.axes == axes:
            return x
        return self.make("reduce", (x,), (), axes)

    def broadcast(self, x: Tile | None, axes: Axes) -> Tile | None:
        """x repeated over the axes it lacks."""
        if x is None or x.axes == axes:
            return x
        return self.make("broadcast", (x,), (), axes)

    def add(self, x: Tile | None, y: Tile | None) -> Tile | None:
        """x + y."""
        if x is None or y is None:
            return y if x is None else x
        return self.make("add", (x, y), (), x.axes)

    def scale(self, x: Tile | None, number: float) -> Tile | None:
        """number * x."""
        if x is None or number == 1:
            return x
        if x.op == "scale":
            return self.scale(x.args[0], float(x.attr[0]) * number)
        return self.make("scale", (x,), (number,), x.axes)

    def factor(self, x: Tile | None, constant: str) -> Tile | None:
        """x times a scalar argument of the op."""
        return None if x is None else self.make("factor", (x,), (constant,), x.axes)

    def rename(self, x: Tile | None, mapping: dict[str, str]) -> Tile | None:
        """x under other axis names; prints nothing."""
        if x is None:
            return None
        axes = tuple(mapping.get(a, a) for a in x.axes)
        base = x.args[0] if x.op == "rename" else x
        return base if axes == base.axes else self.make("rename", (base,), (), axes)

    def decay(self, logs: tuple[Tile, ...], to: At, origin: At, channel: bool) -> Tile:
        """exp of the sum of log decays from ``origin`` to ``to``, masked between two rows."""
        axes = tuple(p.axis for p in (to, origin) if not p.border)
        return self.make("decay", logs, (to, origin, channel), axes + (("k",) if channel else ()))

    def cover(
        self, weight: Tile | None, to: At, origin: At, slot: tuple[int, int], channel: bool
    ) -> Tile | None:
        """The adjoint of ``decay`` for log decay ``slot[0]`` of ``slot[1]``."""
        if weight is None:
            return None
        axes = ("tok", "k") if channel else ("tok",)
        return self.make("cover", (weight,), (to, origin, slot, channel), axes)

    def contract(
        self,
        x: Tile | None,
        y: Tile | None,
        logs: tuple[Tile, ...],
        span: tuple[At, At],
        axes: Axes,
    ) -> Tile | None:
        """sum x * y * decay(span) per channel over the axis that the result lacks."""
        if x is None or y is None:
            return None
        return self.make("contract", (x, y, *logs), span, axes)

    def solve(self, matrix: Tile, right: Tile | None, transposed: bool = False) -> Tile | None:
        """(I - matrix)^{-1} right, or with the transpose of the matrix."""
        return (
            None
            if right is None
            else self.make("solve", (matrix, right), (transposed,), right.axes)
        )


def strip(tile: Tile) -> Tile:
    """The tile behind a renaming."""
    return tile.args[0] if tile.op == "rename" else tile


def below(roots: Iterable[Tile | None]) -> list[Tile]:
    """Every tile that the roots need, operands first."""
    seen: set[int] = set()
    order: list[Tile] = []
    for root in roots:
        stack = [] if root is None else [(root, False)]
        while stack:
            tile, done = stack.pop()
            if done:
                order.append(tile)
            elif tile.id not in seen:
                seen.add(tile.id)
                stack.append((tile, True))
                stack.extend((arg, False) for arg in reversed(tile.args))
    return order


def contracted(tile: Tile) -> Axes:
    """The axes that an operation sums over."""
    if tile.op not in ("ein", "reduce", "contract"):
        return ()
    operands = tile.args[:2] if tile.op == "contract" else tile.args
    axes = dict.fromkeys(axis for arg in operands for axis in arg.axes)
    return tuple(axis for axis in axes if axis not in tile.axes)


def is_dot(tile: Tile) -> bool:
    """Whether a tile is a matrix product: work for tensor cores."""
    if tile.op in ("contract", "solve", "inverse"):
        return True
    if tile.op != "ein":
        return False
    x, y = tile.args
    return bool(contracted(tile)) and min(len(x.axes), len(y.axes), len(tile.axes)) > 1
