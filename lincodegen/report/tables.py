"""Tables of the page, and how figures are printed in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under a head; the first cell names its row.

    Attributes:
        text: columns that hold words: set left, the others right.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: frozenset[int]


def table(head: Iterable[str], rows: Iterable[Iterable[str]], text: Iterable[int] = (0,)) -> Table:
    """A table of any iterables."""
    return Table(tuple(head), tuple(tuple(row) for row in rows), frozenset(text))


def figure(value: float) -> str:
    """Three digits or more: ``1,568``, ``197k``, ``4.2``; 0 is 0."""
    if value >= 1e5:
        return f"{value / 1e3:,.0f}k"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def milliseconds(seconds: float | None) -> str:
    """A time in milliseconds, without the unit."""
    return MISSING if seconds is None else f"{seconds * 1e3:,.3f}"


def scaled(value: float, unit: str) -> str:
    """A rate with a prefix: ``3.35 TB/s``."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def short_name(device: str) -> str:
    """A device without what stands in brackets."""
    return device.partition(" (")[0]
