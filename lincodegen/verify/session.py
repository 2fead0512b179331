"""Which cases ``build`` and ``verify`` try on an op."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lincodegen.spec.step import Recurrence
from lincodegen.verify.call import Op
from lincodegen.verify.harness import cases_for, verify
from lincodegen.verify.verdict import Verdict

QUICK_CASES = ("typical", "repeated heads", "gate -inf", "optional absent")
QUICK_LENGTHS = (0, 1, 65)
PACKED = frozenset(("packed", "by sequence"))
"""Cases that need packed sequences, which ops do not take yet."""


def verify_op(
    recurrence: Recurrence,
    op: Op,
    *,
    dtype: str = "float32",
    quick: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Verdict:
    """The verdict on an op over all cases that concern it, or over a few of them."""
    kind = getattr(torch, dtype)
    cases = tuple(c for c in cases_for(recurrence, kind) if c not in PACKED)
    if not quick:
        return verify(recurrence, op, dtype=kind, cases=cases, on_progress=on_progress)
    few = tuple(c for c in cases if c in QUICK_CASES)
    return verify(
        recurrence, op, dtype=kind, cases=few, lengths=QUICK_LENGTHS, on_progress=on_progress
    )
