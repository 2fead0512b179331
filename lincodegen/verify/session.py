"""Which cases ``build`` and ``verify`` try on an op."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lincodegen.runtime.backend import chosen_backend
from lincodegen.spec.step import Recurrence
from lincodegen.verify.call import Op
from lincodegen.verify.emulation import emulator
from lincodegen.verify.harness import Options, cases_for, verify
from lincodegen.verify.trials import HALF
from lincodegen.verify.verdict import Verdict

QUICK_CASES = ("typical", "repeated heads", "gate -inf", "optional absent")
QUICK_LENGTHS = (0, 1, 65)


def verify_op(
    recurrence: Recurrence,
    op: Op,
    *,
    dtype: str = "float32",
    quick: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Verdict:
    """The verdict on an op over all cases that concern it, or over a few of them.

    Kernels of 16-bit operands are compared with their emulator as well.
    """
    kind = getattr(torch, dtype)
    plan: Options = {"dtype": kind}
    plan["cases"] = tuple(
        case for case in cases_for(recurrence, kind) if not quick or case in QUICK_CASES
    )
    if quick:
        plan["lengths"] = QUICK_LENGTHS
    if kind in HALF and chosen_backend(torch.device("cpu"), torch.float32, True) == "triton":
        plan["emulator"] = emulator(op, kind)
    return verify(recurrence, op, on_progress=on_progress, **plan)
