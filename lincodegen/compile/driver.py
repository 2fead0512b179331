"""A Triton driver for a GPU that is not there: it names a target and launches nothing."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver

from lincodegen.targets import Target


class CompileOnlyDriver(DriverBase):
    """Answers the questions of Triton's launch path up to, and without, the launch."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        arch = int(target.arch) if target.backend == "cuda" else target.arch
        self._target = GPUTarget(target.backend, arch, target.warp_size)

    @classmethod
    def is_active(cls) -> bool:
        """Never chosen by itself: only by `activate`."""
        return False

    def get_current_target(self) -> GPUTarget:
        """The target to compile for."""
        return self._target

    def get_current_device(self) -> int:
        """Index of the imagined device."""
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        """Handle of the imagined stream."""
        return 0

    def set_current_device(self, device: int) -> None:
        """Nothing: there is one device only."""

    def get_active_torch_device(self) -> torch.device:
        """Where the launch path may put tensors."""
        return torch.device("cpu")

    def map_python_to_cpp_type(self, ty: str) -> NoReturn:
        """Needed for launchers alone."""
        raise NotImplementedError(f"a compile-only driver launches nothing (type {ty})")

    def get_benchmarker(self) -> NoReturn:
        """Needed for timing alone."""
        raise NotImplementedError("a compile-only driver times nothing")

    def get_device_interface(self) -> NoReturn:
        """Needed for timing alone."""
        raise NotImplementedError("a compile-only driver has no device")

    def get_empty_cache_for_benchmark(self) -> NoReturn:
        """Needed for timing alone."""
        raise NotImplementedError("a compile-only driver times nothing")

    def clear_cache(self, cache: Any) -> NoReturn:
        """Needed for timing alone."""
        raise NotImplementedError("a compile-only driver times nothing")


def activate(target: Target) -> None:
    """Makes every later compilation of this process one for ``target``."""
    driver.set_active(CompileOnlyDriver(target))
