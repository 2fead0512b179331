"""The running sum of a log decay's gradient as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lincodegen.emit.triton_rows import Clocks, Rows
from lincodegen.program.ir import Tile


class Values(Protocol):
    """What prints tiles as values, and knows their rows."""

    rows: Rows
    clocks: Clocks

    def value(self, tile: Tile, level: int = 0) -> str:
        """A tile as an operand."""
        ...

    def float_value(self, tile: Tile, level: int = 0) -> str:
        """A tile for float32 arithmetic."""
        ...

    def lines_of(self, tile: Tile) -> list[str]:
        """The list of lines that a tile's statement belongs to."""
        ...


def running_text(body: Values, tile: Tile, label: str) -> str:
    """Row sums minus column sums, then one reverse running sum over the tokens.

    ``label`` names the tile, where a part of it needs a statement.
    """
    channel = "k" in tile.axes
    groups = _groups(body, tile)
    terms = []
    if groups["own"]:
        terms.append(f"tl.cumsum({_joined(groups['own'])}, 0, reverse=True)")
    if groups["later"]:
        lines = body.lines_of(tile)
        name = f"{label}_later"
        lines.append(f"{name} = {_joined(groups['later'])}")
        terms.append(f"tl.cumsum({name}, 0, reverse=True) - {name}")
    if not terms:
        shape = "[BT, BK]" if channel else "[BT]"
        terms.append(f"tl.zeros({shape}, dtype=tl.float32)")
    return " ".join([" + ".join(terms), *groups["all"]])


def _groups(body: Values, tile: Tile) -> dict[str, list[str]]:
    """The signed parts of a running sum.

    ``own`` lie past the log decay of their token, ``later`` before it, ``all`` at the chunk's end.
    """
    points, (slot, _) = tile.attr
    channel = "k" in tile.axes
    groups: dict[str, list[str]] = {"own": [], "later": [], "all": []}
    for part, (at, sign) in zip(tile.args, points, strict=True):
        mark = "-" if sign < 0 else "+"
        if at.border:
            text = body.value(part, 1) + ("[None, :]" if channel and part.axes else "")
            groups["all"].append(f"{mark} {text}")
            continue
        passed = body.clocks.passed(at, channel)
        for own in (True, False):
            chosen = [p > slot for p in passed]
            if not any(c == own for c in chosen):
                continue
            text = _per_token(body, part, at.axis, [c == own for c in chosen], channel)
            groups["own" if own else "later"].append(f"{mark} {text}")
    return groups


@dataclass(frozen=True, slots=True)
class AliveSums:
    """A running sum that ends where a decay is zero, and what it hands to the chunk before.

    Between two such tokens the sums over all points are zero: what lies past the next one adds
    nothing but its roundings.
    """

    lines: tuple[str, ...]
    total: str
    handed: str


def alive_sums(body: Values, tile: Tile, log: str) -> AliveSums:
    """The texts for the running sum ``tile`` of the one log decay that the tokens have."""
    groups = _groups(body, tile)
    end = _joined(groups["all"])
    lines = [
        f"m_dead = {log} <= -256.0",
        "b_dead = tl.cumsum(m_dead.to(tl.int32), 0)",
        "b_dead_before = b_dead - m_dead.to(tl.int32)",
    ]
    totals, handed = [], []
    for kind, dead, strict in (("own", "b_dead", False), ("later", "b_dead_before", True)):
        if groups[kind]:
            rows = _joined(groups[kind])
            totals.append(f"alive_sum({rows}, b_dead, {dead}, {strict})")
            handed.append(f"tl.sum(tl.where({dead} == 0, {rows}, 0.0), 0)")
    totals.append(f"tl.where(b_dead == tl.max(b_dead, 0), {end}, 0.0)")
    handed.append(f"tl.where(tl.max(b_dead, 0) == 0, {end}, 0.0)")
    return AliveSums(tuple(lines), " + ".join(totals), " + ".join(handed))


def _per_token(body: Values, part: Tile, axis: str, chosen: list[bool], channel: bool) -> str:
    """The sum over the chosen slots of each token."""
    n = body.rows.slots(axis)
    if n == 1:
        return body.float_value(part, 1)
    text = body.float_value(part)
    if not all(chosen):
        flags = body.rows.by_slot(axis, tuple(int(c) for c in chosen))
        index = "[:, None]" if channel else ""
        text = f"tl.where(({flags}){index} == 1, {text}, 0.0)"
    shape = f"[BT, {n}, BK]" if channel else f"[BT, {n}]"
    return f"tl.sum(tl.reshape({text}, {shape}), 1)"


def _joined(terms: list[str]) -> str:
    text = " ".join(terms)
    return text.removeprefix("+ ") if text.startswith("+ ") else "-" + text[2:]
