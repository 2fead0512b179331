"""Which lines of a kernel later lines need."""

from __future__ import annotations

import re


def identifiers(text: str) -> set[str]:
    """The names in a text, attributes left out."""
    return set(re.findall(r"(?<![.\w])[A-Za-z_]\w*\b(?!\s*=[^=])", text))


def at_first_use(lines: list[str], later: list[str]) -> list[str]:
    """``later`` with each assignment of ``lines`` just before what needs it first.

    Sums over all rows come before anything else: their operands then need not live on.
    """
    placed = [*(x for x in lines if "tl.sum(" in x), *later]
    for line in reversed([x for x in lines if "tl.sum(" not in x]):
        name = line.split(" = ")[0]
        at = (i for i, x in enumerate(placed) if name in identifiers(x.split("\n")[-1]))
        placed.insert(next(at), line)
    return placed


def pruned(lines: list[str], used: list[str]) -> list[str]:
    """The assignments among ``lines`` whose names later lines or ``used`` need."""
    words = identifiers("\n".join(used))
    kept: list[str] = []
    for line in reversed(lines):
        if line.split("\n")[-1].split(" = ")[0] in words:
            kept.append(line)
            words |= identifiers(line.split("\n")[-1])
    return kept[::-1]
