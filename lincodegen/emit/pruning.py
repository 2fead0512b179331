"""Which lines of a kernel later lines need."""

from __future__ import annotations

import re


def identifiers(text: str) -> set[str]:
    """The names in a text, attributes left out."""
    return set(re.findall(r"(?<![.\w])[A-Za-z_]\w*\b(?!\s*=[^=])", text))


def assigned(line: str) -> list[str]:
    """The names that an assignment binds."""
    return line.split("\n")[-1].split(" = ")[0].split(", ")


def at_first_use(lines: list[str], later: list[str]) -> list[str]:
    """``later`` with each assignment of ``lines`` just before what needs it first.

    Sums over all rows come before anything else: their operands then need not live on.
    """
    waiting: dict[str, list[str]] = {}
    for line in lines:
        waiting.setdefault(line.split(" = ")[0], []).append(line)
    placed: list[str] = []

    def place(line: str) -> None:
        words = identifiers(line.split("\n")[-1])
        for name in [n for n in waiting if n in words]:
            for needed in waiting.pop(name, ()):
                place(needed)
        placed.append(line)

    sums = [line for line in lines if "tl.sum(" in line]
    for line in sums:
        del waiting[line.split(" = ")[0]]
    for line in (*sums, *later):
        place(line)
    return placed


def when_made(stores: list[str], lines: list[str]) -> list[str]:
    """``lines`` with each store just behind the last assignment that it needs."""
    placed = list(lines)
    for store in stores:
        words = identifiers(store)
        made = [i for i, x in enumerate(placed) if words.intersection(assigned(x))]
        placed.insert(max(made, default=-1) + 1, store)
    return placed


def pruned(lines: list[str], used: list[str]) -> list[str]:
    """The assignments among ``lines`` whose names later lines or ``used`` need."""
    words = identifiers("\n".join(used))
    kept: list[str] = []
    for line in reversed(lines):
        if words.intersection(assigned(line)):
            kept.append(line)
            words |= identifiers(line.split("\n")[-1])
    return kept[::-1]
