"""A roofline as inline SVG: FLOP a byte against FLOP a second, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lincodegen.report.charts import Words, svg
from lincodegen.report.tables import scaled

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 92, 20, 34, 52
RADIUS = 10


@dataclass(frozen=True, slots=True)
class Point:
    """A kernel: its FLOPs, its bytes and the seconds that it takes."""

    label: str
    flops: float
    bytes: float
    seconds: float
    kind: str

    @property
    def intensity(self) -> float:
        """FLOP a byte."""
        return self.flops / self.bytes

    @property
    def rate(self) -> float:
        """FLOP a second."""
        return self.flops / self.seconds


@dataclass(frozen=True, slots=True)
class Roof:
    """What a device reaches: bytes and FLOP a second."""

    bandwidth: float
    flops: float

    @property
    def ridge(self) -> float:
        """FLOP a byte where the two meet."""
        return self.flops / self.bandwidth

    def at(self, intensity: float) -> float:
        """The most FLOP a second at so many FLOP a byte."""
        return min(self.flops, self.bandwidth * intensity)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Decades that the two axes span."""

    x: tuple[int, int]
    y: tuple[int, int]

    def across(self, value: float) -> float:
        share = (math.log10(value) - self.x[0]) / (self.x[1] - self.x[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def down(self, value: float) -> float:
        share = (math.log10(value) - self.y[0]) / (self.y[1] - self.y[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def roofline(words: Words, roof: Roof, points: Sequence[Point]) -> Markup:
    """The roof, and every kernel as a numbered point below it."""
    frame = _frame(roof, points)
    body = [*_grid(frame), *_roof(roof, frame), *_points(points, frame)]
    return svg(words, (WIDTH, HEIGHT), body)


def _frame(roof: Roof, points: Sequence[Point]) -> _Frame:
    across = [roof.ridge, *(p.intensity for p in points)]
    x = _decades(min(across) / 2, max(across) * 2)
    rates = [roof.flops, roof.at(10.0 ** x[0]), *(p.rate for p in points)]
    return _Frame(x, _decades(min(rates), max(rates) * 1.2))


def _decades(low: float, high: float) -> tuple[int, int]:
    first = math.floor(math.log10(low))
    return first, max(first + 1, math.ceil(math.log10(high)))


def _grid(frame: _Frame) -> Iterator[Markup]:
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    line = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>')
    text = Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>')
    for exponent in range(frame.x[0], frame.x[1] + 1):
        x = frame.across(10.0**exponent)
        yield line.format(x, top, x, bottom, "grid")
        yield text.format(x, bottom + 20, "middle", f"{10.0**exponent:g}")
    for exponent in range(frame.y[0], frame.y[1] + 1):
        y = frame.down(10.0**exponent)
        yield line.format(left, y, right, y, "grid")
        yield text.format(left - 8, y + 4, "end", scaled(10.0**exponent, "FLOP/s"))
    yield text.format((left + right) / 2, HEIGHT - 10, "middle", "FLOP per byte moved")


def _roof(roof: Roof, frame: _Frame) -> Iterator[Markup]:
    start, stop = 10.0 ** frame.x[0], 10.0 ** frame.x[1]
    corners = [(start, roof.at(start)), (roof.ridge, roof.flops), (stop, roof.flops)]
    path = " ".join(f"{frame.across(x):.1f},{frame.down(y):.1f}" for x, y in corners)
    yield Markup('<polyline points="{}" class="roof"/>').format(path)
    label = Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>')
    x, y = frame.across(start), frame.down(roof.at(start))
    yield label.format(x + 14, y - 22, "value", f"memory: {scaled(roof.bandwidth, 'B/s')}")
    top = frame.down(roof.flops) - 8
    yield label.format(
        WIDTH - RIGHT - 4, top, "end", f"tensor cores: {scaled(roof.flops, 'FLOP/s')}"
    )


def _points(points: Sequence[Point], frame: _Frame) -> Iterator[Markup]:
    mark = Markup(
        '<g><title>{}</title><circle cx="{:.1f}" cy="{:.1f}" r="{}" class="{}"/>'
        '<text x="{:.1f}" y="{:.1f}" class="mark">{}</text></g>'
    )
    for number, point in enumerate(points, start=1):
        x, y = frame.across(point.intensity), frame.down(point.rate)
        yield mark.format(point.label, x, y, RADIUS, point.kind, x, y + 4, number)
