"""What is checked, tuned and timed, in which order and for how long."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lincodegen.errors import TuningError
from lincodegen.loading import shipped_names
from lincodegen.resources import important_ops_file

PHASES = ("check", "tune", "bench")
SHARES = {"check": 0.45, "tune": 0.35, "bench": 0.2}
"""Of the budget; what a phase leaves over goes to those after it."""
MOST_WORKERS = 14


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is tuned for and timed: ``heads`` of one sequence of ``tokens``."""

    heads: int
    tokens: int
    size: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Options:
    """How a check is run.

    Attributes:
        out: the folder of everything that is found.
        budget_s: seconds in all.
        ops: in the order of their importance.
        phases: of `PHASES`, in the order in which they run.
        timeout_s: seconds that one op has for its verdict.
        workers: processes that judge at a time; timing has the device for itself.
        size: every dimension of the calls that are judged.
        dtypes: in the order of their importance.
        calls: what is tuned for and timed.
        tuned: how many of the ops are tuned.
        trials: most configurations of one op and call.
    """

    out: Path
    budget_s: float = 480.0
    ops: tuple[str, ...] = field(default_factory=lambda: by_importance(()))
    phases: tuple[str, ...] = PHASES
    timeout_s: float = 150.0
    workers: int = field(
        default_factory=lambda: max(1, min(MOST_WORKERS, (os.cpu_count() or 1) - 2))
    )
    size: int = 64
    dtypes: tuple[str, ...] = ("bfloat16", "float32", "float16", "float64")
    calls: tuple[Call, ...] = (Call(64, 4096, 128, "bfloat16"), Call(8, 32768, 128, "bfloat16"))
    tuned: int = 4
    trials: int = 60
    seed: int = 0


def by_importance(named: Sequence[str]) -> tuple[str, ...]:
    """The ops that are named, else all that are shipped: first those of the list, then by name.

    Raises:
        TuningError: no op has such a name.
    """
    shipped = shipped_names()
    unknown = [name for name in named if name not in shipped]
    if unknown:
        raise TuningError(f"no op {unknown[0]!r}; there are {', '.join(shipped)}")
    if named:
        return tuple(dict.fromkeys(named))
    listed = important_ops_file().read_text(encoding="utf-8").split()
    first = [name for name in listed if name in shipped]
    return (*first, *(name for name in shipped if name not in first))


def phase_order(first: Sequence[str]) -> tuple[str, ...]:
    """All phases, those that are named before the others.

    Raises:
        TuningError: no phase has such a name.
    """
    unknown = [name for name in first if name not in PHASES]
    if unknown:
        raise TuningError(f"no phase {unknown[0]!r}; there are {', '.join(PHASES)}")
    return tuple(dict.fromkeys([*first, *PHASES]))


def names(text: str) -> tuple[str, ...]:
    """The names of a list with commas."""
    return tuple(name for name in map(str.strip, text.split(",")) if name)
