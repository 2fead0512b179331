"""A Triton driver for a GPU that is not there: it names a target and launches nothing."""

from __future__ import annotations

from typing import Any, cast

from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from lincodegen.targets import Target


class CompileOnlyDriver:
    """Answers what Triton's launch path asks before a launch; it has no other method."""

    def __init__(self, target: Target) -> None:
        # Triton's annotation says integer, its AMD backend wants the name
        arch: Any = int(target.arch) if target.backend == "cuda" else target.arch
        self._target = GPUTarget(target.backend, arch, target.warp_size)

    def get_current_target(self) -> GPUTarget:
        """The target to compile for."""
        return self._target

    def get_current_device(self) -> int:
        """Index of the imagined device."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Handle of the imagined stream."""
        return device


def activate(target: Target) -> None:
    """Makes every later compilation of this process one for ``target``."""
    driver.set_active(cast("Any", CompileOnlyDriver(target)))
