"""How time grows with the length of the sequence: the exponent of a power of T."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from lincodegen.bench.record import Row

LEAST_LENGTHS = 3


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """p of the least squares fit of log t = p log T + c.

    Raises:
        ValueError: there are fewer than two lengths.
    """
    if len({tokens for tokens, _ in points}) < 2:
        raise ValueError(f"an exponent needs two lengths, not {[t for t, _ in points]}")
    x, y = ([math.log(v) for v in side] for side in zip(*points, strict=True))
    mean = sum(x) / len(x)
    return sum((a - mean) * b for a, b in zip(x, y, strict=True)) / sum((a - mean) ** 2 for a in x)


def growth(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Fits of all series that differ in T alone and have three lengths or more.

    ``exponent`` is that of all lengths, ``tail`` that of the longer half: what a call costs
    however short it is pulls the former down.
    """
    series: dict[tuple[str, ...], dict[int, Row]] = {}
    for row in rows:
        if row.median is not None:
            rest = {name: size for name, size in row.shape.items() if name != "tokens"}
            key = (row.op, row.mode, row.timing, row.contestant, str(rest))
            series.setdefault(key, {})[row.shape["tokens"]] = row
    found: list[dict[str, Any]] = []
    for (op, mode, timing, contestant, _), by_length in series.items():
        if len(by_length) < LEAST_LENGTHS:
            continue
        points = [(t, row.median) for t, row in sorted(by_length.items()) if row.median]
        tail = points[-max(2, len(points) // 2) :]
        found.append(
            {
                "op": op,
                "mode": mode,
                "timing": timing,
                "contestant": contestant,
                "tokens": [t for t, _ in points],
                "exponent": exponent(points),
                "tail": exponent(tail),
            }
        )
    return found
