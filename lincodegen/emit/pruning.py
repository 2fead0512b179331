"""Which lines of a kernel later lines need."""

from __future__ import annotations

import re


def identifiers(text: str) -> set[str]:
    """The names in a text, attributes left out."""
    return set(re.findall(r"(?<![.\w])[A-Za-z_]\w*\b(?!\s*=[^=])", text))


def pruned(lines: list[str], used: list[str]) -> list[str]:
    """The assignments among ``lines`` whose names later lines or ``used`` need."""
    words = identifiers("\n".join(used))
    kept: list[str] = []
    for line in reversed(lines):
        if line.split("\n")[-1].split(" = ")[0] in words:
            kept.append(line)
            words |= identifiers(line.split("\n")[-1])
    return kept[::-1]
