"""Bar charts as inline SVG; colours are classes that the page's style sheet defines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 760
LABEL = 190
VALUE = 150
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


def bar_chart(words: Words, bars: Sequence[Bar]) -> Markup:
    """Horizontal bars from zero, the longest as wide as there is room."""
    room = WIDTH - LABEL - VALUE
    most = max((bar.value for bar in bars), default=0.0) or 1.0
    body: list[Markup] = []
    for i, bar in enumerate(bars):
        y = ROW * i + ROW // 2
        length = max(1.0, room * bar.value / most)
        body += [
            Markup('<text x="{}" y="{}" class="end">{}</text>').format(
                LABEL - 10, y + 4, bar.label
            ),
            Markup('<rect x="{}" y="{}" width="{:.1f}" height="{}" class="{}"/>').format(
                LABEL, y - BAR // 2, length, BAR, bar.kind
            ),
            Markup('<text x="{:.1f}" y="{}" class="value">{}</text>').format(
                LABEL + length + 8, y + 4, bar.shown
            ),
        ]
    axis = Markup('<line x1="{0}" y1="0" x2="{0}" y2="{1}" class="axis"/>')
    body.append(axis.format(LABEL, ROW * len(bars)))
    return svg(words, (WIDTH, ROW * max(1, len(bars))), body)
