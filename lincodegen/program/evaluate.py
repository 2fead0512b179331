"""Evaluates tiles exactly: the meaning of every operation of the tile program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_letters
from typing import Any

import numpy as np

from lincodegen.derive.chunkform import ChunkForm
from lincodegen.program.exact import Array, Field
from lincodegen.program.ir import At, Tile

Point = tuple[int, int]


@dataclass(slots=True)
class TileEvaluator:
    """Evaluates the tiles of one chunk of ``tokens`` tokens.

    ``leaves`` holds the values of loads, carries and cotangents by tile id; for a log decay
    the factor w itself, in place of its logarithm.
    """

    form: ChunkForm
    ring: Field
    tokens: int
    leaves: Mapping[int, Array]
    scalars: Mapping[str, Any]
    state_sizes: Mapping[str, int]
    memo: dict[int, Array] = field(default_factory=dict)

    def __call__(self, tile: Tile) -> Array:
        """The value of a tile, an object array over its axes."""
        if tile.id not in self.memo:
            self.memo[tile.id] = np.asarray(self._value(tile), dtype=object)
        return self.memo[tile.id]

    # -- points ----------------------------------------------------------------------------

    def points(self, at: At) -> list[Point]:
        """(token, events passed) of every row of a point; one for a border."""
        if at.border:
            return [(0, 0) if at.axis == "start" else (self.tokens, 0)]
        slots = self.form.slots(at.axis)
        moments = [getattr(s, at.moment) for s in slots]
        return [(t, m) for t in range(self.tokens) for m in moments]

    def clock(self, point: Point, channel: bool, count: int) -> int:
        """Decays passed since the chunk's start."""
        token, passed = point
        return token * count + self.form.group.clocks(passed)[int(channel)]

    def spans(
        self, to: At, origin: At, channel: bool, count: int
    ) -> list[list[tuple[bool, range]]]:
        """Per pair of rows: whether the write is visible, and the decays in between."""
        pair = not to.border and not origin.border
        return [
            [
                (
                    not pair or q < p,
                    range(self.clock(q, channel, count), self.clock(p, channel, count)),
                )
                for q in self.points(origin)
            ]
            for p in self.points(to)
        ]

    # -- operations ------------------------------------------------------------------------

    def _value(self, tile: Tile) -> Array:
        if tile.id in self.leaves:
            return self.leaves[tile.id]
        args = [self(a) for a in tile.args if tile.op not in ("decay", "contract")]
        match tile.op:
            case "ein":
                x, y = tile.args
                return self._ein([x.axes, y.axes], tile.axes, *args)
            case "reduce":
                return self._ein([tile.args[0].axes], tile.axes, *args)
            case "broadcast":
                return self._broadcast(tile, args[0])
            case "add":
                return args[0] + args[1]
            case "scale":
                return args[0] * self.ring.element(int(tile.attr[0]))
            case "factor":
                return args[0] * self.scalars[str(tile.attr[0])]
            case "rename":
                return args[0]
            case "diagonal":
                return np.diagonal(args[0])
            case "alive":
                value, decay = args
                return np.array([x if w != 0 else x - x for x, w in zip(value, decay, strict=True)])
            case "decay":
                value = self._decay(tile, tile.args, tile.attr)
                # an oriented span has its columns first
                to, origin, _ = tile.attr
                turned = not to.border and tile.axes[:1] == (origin.axis,)
                return value.swapaxes(0, 1) if turned else value
            case "contract":
                return self._contract(tile)
            case "cover":
                return self._cover(tile, args[0])
            case "running":
                return self._running(tile, args)
            case "solve":
                return self._solve(tile, *args)
            case "inverse":
                return self._solve_matrix(args[0], _identity(len(args[0]), self.ring), False)
        raise NotImplementedError(tile.op)

    def _ein(self, axes: list[tuple[str, ...]], out: tuple[str, ...], *args: Array) -> Array:
        letters = {
            a: ascii_letters[i] for i, a in enumerate(dict.fromkeys(x for t in axes for x in t))
        }
        inner = ",".join("".join(letters[a] for a in t) for t in axes)
        return np.asarray(
            np.einsum(f"{inner}->{''.join(letters[a] for a in out)}", *args), dtype=object
        )

    def _broadcast(self, tile: Tile, value: Array) -> Array:
        (x,) = tile.args
        sizes = {a: self._size(a) for a in tile.axes}
        index = tuple(slice(None) if a in x.axes else None for a in tile.axes)
        return np.broadcast_to(value[index], tuple(sizes[a] for a in tile.axes))

    def _size(self, axis: str) -> int:
        if axis in ("k", "v"):
            return self.state_sizes[axis]
        return self.tokens * (1 if axis == "tok" else len(self.form.slots(axis)))

    def _decay(self, tile: Tile, logs: tuple[Tile, ...], attr: tuple[Any, ...]) -> Array:
        to, origin, channel = attr
        w = [self(x) for x in logs]
        one = self.ring.element(1)
        width = w[0].shape[1:] if channel else ()
        rows = []
        for line in self.spans(to, origin, channel, len(w)):
            cells = []
            for visible, span in line:
                value = np.full(width, one, dtype=object)
                for u in span:
                    value = value * w[u % len(w)][u // len(w)]
                cells.append(value if visible else value * self.ring.element(0))
            rows.append(cells)
        out = np.array(rows, dtype=object).reshape(len(rows), len(rows[0]), *width)
        if to.border:
            out = out[0]
        if origin.border:
            out = out[..., 0, :] if channel else out[..., 0]
        return np.asarray(out, dtype=object)

    def _contract(self, tile: Tile) -> Array:
        x, y, *logs = tile.args
        to, origin = tile.attr
        full = self._decay(tile, tuple(logs), (to, origin, True))
        span_axes = (to.axis, origin.axis, "k")
        return self._ein([x.axes, y.axes, span_axes], tile.axes, self(x), self(y), full)

    def _cover(self, tile: Tile, weight: Array) -> Array:
        to, origin, (slot, count), channel = tile.attr
        width = weight.shape[-1:] if channel else ()
        out = np.full((self.tokens, *width), self.ring.element(0), dtype=object)
        spans = self.spans(to, origin, channel, count)
        for i, line in enumerate(spans):
            for j, (visible, span) in enumerate(line):
                index = tuple(n for n, p in ((i, to), (j, origin)) if not p.border)
                for u in span:
                    if visible and u % count == slot:
                        out[u // count] = out[u // count] + weight[index]
        return out

    def _running(self, tile: Tile, args: list[Array]) -> Array:
        points, (slot, count) = tile.attr
        channel = "k" in tile.axes
        width = (self.state_sizes["k"],) if channel else ()
        out = np.full((self.tokens, *width), self.ring.element(0), dtype=object)
        for part, (at, sign) in zip(args, points, strict=True):
            rows = part[None] if at.border else part
            for row, point in zip(rows, self.points(at), strict=True):
                for u in range(slot, self.clock(point, channel, count), count):
                    out[u // count] = out[u // count] + row * sign
        return out

    def _solve(self, tile: Tile, matrix: Array, right: Array) -> Array:
        return self._solve_matrix(matrix, right, bool(tile.attr[0]))

    def _solve_matrix(self, matrix: Array, right: Array, transposed: bool) -> Array:
        n = len(matrix)
        out = right.copy()
        rows = range(n - 1, -1, -1) if transposed else range(n)
        for i in rows:
            for j in range(n):
                coefficient = matrix[j, i] if transposed else matrix[i, j]
                if (j > i) == transposed and j != i:
                    out[i] = out[i] + out[j] * coefficient
        return out


def _identity(n: int, ring: Field) -> Array:
    out = np.full((n, n), ring.element(0), dtype=object)
    for i in range(n):
        out[i, i] = ring.element(1)
    return out
