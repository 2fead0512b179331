"""Bar charts as inline SVG; colours are classes that the page's style sheet defines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 760, 260
LETTER = 7.4
"""Width of a letter of labels, about."""
ROOM = 420
ROW = 28
BAR = 16


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        shown: its value with the unit, printed at its end.
        kind: class of its colour.
    """

    label: str
    value: float
    shown: str
    kind: str


@dataclass(frozen=True, slots=True)
class Words:
    """What a chart says to those who do not see it; ``key`` makes its ids unique on the page."""

    key: str
    title: str
    description: str


def svg(words: Words, size: tuple[int, int], body: Sequence[Markup]) -> Markup:
    """An SVG element of a width and height, with title and description."""
    head = Markup(
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
        'aria-labelledby="{key}-title {key}-desc">\n'
        '<title id="{key}-title">{title}</title>\n<desc id="{key}-desc">{desc}</desc>\n'
    ).format(w=size[0], h=size[1], key=words.key, title=words.title, desc=words.description)
    return head + Markup("\n").join(body) + Markup("\n</svg>")


def bar_chart(words: Words, bars: Sequence[Bar], most: float | None = None) -> Markup:
    """Horizontal bars from zero; ``most``, else the longest, is `ROOM` wide."""
    left = 24 + LETTER * max((len(bar.label) for bar in bars), default=0)
    right = 16 + LETTER * max((len(bar.shown) for bar in bars), default=0)
    whole = most or max((bar.value for bar in bars), default=0.0) or 1.0
    label = Markup('<text x="{:.1f}" y="{}" class="{}">{}</text>')
    block = Markup('<rect x="{:.1f}" y="{}" width="{:.1f}" height="{}" class="{}"/>')
    body: list[Markup] = []
    for i, bar in enumerate(bars):
        y = ROW * i + ROW // 2
        length = max(1.0, ROOM * bar.value / whole)
        body += [
            label.format(left - 10, y + 4, "end", bar.label),
            block.format(left, y - BAR // 2, length, BAR, bar.kind),
            label.format(left + length + 8, y + 4, "value", bar.shown),
        ]
    axis = Markup('<line x1="{0:.1f}" y1="0" x2="{0:.1f}" y2="{1}" class="axis"/>')
    body.append(axis.format(left, ROW * len(bars)))
    return svg(words, (round(left + ROOM + right), ROW * max(1, len(bars))), body)


def dot_chart(words: Words, values: Sequence[float], unit: str) -> Markup:
    """Positive values in their order as dots, and the least so far as a line; from zero."""
    left, right, top, bottom = 70, WIDTH - 20, 14, HEIGHT - 40
    most = max(values)
    step = (right - left) / max(1, len(values))

    def place(index: int, value: float) -> tuple[float, float]:
        return left + step * (index + 0.5), bottom - (bottom - top) * value / most

    least = [min(values[: i + 1]) for i in range(len(values))]
    line = " ".join("{:.1f},{:.1f}".format(*place(i, value)) for i, value in enumerate(least))
    dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" class="peer"/>')
    text = Markup('<text x="{}" y="{}" class="{}">{}</text>')
    axis = Markup('<line x1="{0}" y1="{1}" x2="{2}" y2="{3}" class="axis"/>')
    body = [
        axis.format(left, top, left, bottom),
        axis.format(left, bottom, right, bottom),
        text.format(left - 8, top + 6, "end", f"{most:.3g} {unit}"),
        text.format(left - 8, bottom + 4, "end", "0"),
        text.format((left + right) / 2, HEIGHT - 12, "middle", "configurations in order of trial"),
        *(dot.format(*place(i, value)) for i, value in enumerate(values)),
        Markup('<polyline points="{}" class="best"/>').format(line),
    ]
    return svg(words, (WIDTH, HEIGHT), body)
