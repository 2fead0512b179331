"""A check of a device of this machine, as both command lines call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lincodegen.gpu_check.options import Options


def check(
    options: Options, device: str, form: str, say: Callable[[str], None]
) -> Mapping[str, Any]:
    """Runs a check and gives its summary.

    Raises:
        TuningError: PyTorch has no such device.
        RecordError: the folder cannot be written.
    """
    # PyTorch is imported here: a wrong option is told at once
    from lincodegen.gpu_check.run import run
    from lincodegen.gpu_check.site import Machine
    from lincodegen.tune.machine import require

    require(device)
    return run(options, Machine(device, form), say)


def outcome(found: Mapping[str, Any], out: Path) -> str:
    """A line for whoever waited."""
    count = len(found["checks"])
    return f"{found['passed']} of {count} checks passed; {out / 'summary.md'}"
