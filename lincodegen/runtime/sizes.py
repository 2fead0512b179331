"""Sizes written as polynomials, ``1 + K + 2*K*K``, and read off the shapes of a call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Size = int | str


def evaluate(size: Size, sizes: Mapping[str, int]) -> int:
    """The number that a polynomial of dimensions is."""
    if isinstance(size, int):
        return size
    if size in sizes:
        return sizes[size]
    return sum(
        math.prod(sizes[f] if f in sizes else int(f) for f in term.split("*"))
        for term in size.split(" + ")
    )


def dimension(size: Size) -> tuple[str, int] | None:
    """Name and factor of a size such as ``K`` or ``2*R``; None for an integer."""
    if isinstance(size, int):
        return None
    *factor, name = size.split("*")
    return name, int(factor[0]) if factor else 1


def shown(shape: Sequence[Size], lead: str = "") -> str:
    """A shape as text: ``[B, T, H, K]``."""
    return f"[{', '.join([*lead.split(), *map(str, shape)])}]"
