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
DOT = 4.5

Place = tuple[float, float]


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
    yield text.format(left, top - 14, "start", "FLOP per second, predicted")


def _roof(roof: Roof, frame: _Frame) -> Iterator[Markup]:
    start, stop = 10.0 ** frame.x[0], 10.0 ** frame.x[1]
    corners = [(start, roof.at(start)), (roof.ridge, roof.flops), (stop, roof.flops)]
    path = " ".join(f"{frame.across(x):.1f},{frame.down(y):.1f}" for x, y in corners)
    yield Markup('<polyline points="{}" class="roof"/>').format(path)
    label = Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>')
    middle = math.sqrt(start * roof.ridge)
    x, y = frame.across(middle) - 12, frame.down(roof.at(middle)) - 8
    yield label.format(x, y, "end", f"memory: {scaled(roof.bandwidth, 'B/s')}")
    top = frame.down(roof.flops) + 18
    yield label.format(
        WIDTH - RIGHT - 4, top, "end", f"tensor cores: {scaled(roof.flops, 'FLOP/s')}"
    )


def _points(points: Sequence[Point], frame: _Frame) -> Iterator[Markup]:
    """A dot where a kernel stands, its number in a circle beside it, a line between the two."""
    mark = Markup(
        '<g class="{kind}"><title>{label}</title>'
        '<line x1="{x:.1f}" y1="{y:.1f}" x2="{u:.1f}" y2="{v:.1f}" class="lead"/>'
        '<circle cx="{x:.1f}" cy="{y:.1f}" r="{dot}"/>'
        '<circle cx="{u:.1f}" cy="{v:.1f}" r="{radius}"/>'
        '<text x="{u:.1f}" y="{base:.1f}" class="mark">{number}</text></g>'
    )
    dots = [(frame.across(p.intensity), frame.down(p.rate)) for p in points]
    places = _places(dots)
    for i, (point, (x, y), (u, v)) in enumerate(zip(points, dots, places, strict=True)):
        at = {"x": x, "y": y, "u": u, "v": v, "base": v + 4, "dot": DOT, "radius": RADIUS}
        yield mark.format(kind=point.kind, label=point.label, number=i + 1, **at)


def _places(dots: Sequence[Place]) -> list[Place]:
    """Where the number of each dot stands: beside it, off other dots and numbers."""
    placed: list[Place] = []
    for x, y in dots:
        tried = [
            (x + distance * math.cos(turn), y + distance * math.sin(turn))
            for distance in (26, 44, 62, 80)
            for turn in (0.9, 0.2, 1.6, -2.2, 2.4, -1.2)
        ]
        free = (p for p in tried if _is_free(p, [*dots, *placed]))
        placed.append(next(free, tried[0]))
    return placed


def _is_free(place: Place, taken: Sequence[Place]) -> bool:
    x, y = place
    inside = LEFT + RADIUS < x < WIDTH - RIGHT - RADIUS and TOP + RADIUS < y < HEIGHT - BOTTOM
    return inside and all(math.hypot(x - u, y - v) > 2 * RADIUS + 2 for u, v in taken)
