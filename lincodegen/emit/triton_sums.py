"""The running sum of a log decay's gradient as text."""

from __future__ import annotations

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
