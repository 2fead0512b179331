"""Durations as a command line has them: ``90``, ``90s``, ``8m``, ``1h``."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """The seconds of a duration.

    Raises:
        ValueError: the text is no duration above 0.
    """
    match = _DURATION.fullmatch(text.strip())
    found = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if found <= 0:
        raise ValueError(f"`{text}` is no duration; expected: a number with s, m or h, as in 8m")
    return found
