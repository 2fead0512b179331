"""The precisions of products, and the methods of inversion, that a search may try."""

from __future__ import annotations

import torch

from lincodegen.config import INVERSES
from lincodegen.targets import Target

_SPLIT = "tf32x3"
_SPLITTING = ("mma.sync", "wgmma", "tcgen05")
"""Matrix units that Triton has it for."""


def precisions(dtype: str, target: Target) -> tuple[str | None, ...]:
    """Those for operands of a dtype in Triton's name, the fastest last; None is torch's.

    ``tf32`` only where torch allows it. Where it demands ``highest``, None comes in place of
    ``ieee``, which it means there: who allows torch less later is not bound to the table.
    """
    if dtype != "fp32":
        return (None,)
    split = (_SPLIT,) if target.matrix_unit in _SPLITTING else ()
    if torch.get_float32_matmul_precision() == "highest":
        return (None, *split)
    return ("ieee", *split, "tf32")


def inverses(target: Target) -> tuple[str, ...]:
    """The methods that a target has."""
    return tuple(m for m in INVERSES if m != _SPLIT or target.matrix_unit in _SPLITTING)
